"""How a server ended a stream: a call in, the server's own status out.

Where the server's last words meet a write of ours, gRPC's asyncio calls set a status of their own
(`FROM_CORE`) for the failed write: before the server's, or after it and in its place. Which of the
two comes is a matter of chance, and only the server's says whether another try is allowed.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc

from featurewire_client.errors import FROM_CORE

_T = TypeVar("_T")

_STATUS_S = 5.0  # until gRPC has read the server's status behind a failed write


class StreamEnd:
    """Keeps the status that came over the network from being lost to gRPC's own."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._told: asyncio.Future[grpc.aio.AioRpcError] = (
            asyncio.get_running_loop().create_future()
        )
        call.add_done_callback(self._keep)

    def _keep(self, call: Any) -> None:
        """Called by gRPC whenever it sets a status, which may be replaced a moment later."""
        status = _of_done(_status(call))
        if status.details() != FROM_CORE and not self._told.done():
            self._told.set_result(status)

    async def status(self) -> grpc.aio.AioRpcError:
        """The server's, or what gRPC says of a broken connection; waits until it has come.

        None within 5 s: gRPC's own for the failed write.
        """
        await self._call.code()
        await asyncio.wait([self._told], timeout=_STATUS_S)
        return self._told.result() if self._told.done() else await _status(self._call)


async def _status(call: Any) -> grpc.aio.AioRpcError:
    code, details = await call.code(), await call.details()
    trailers = await call.trailing_metadata()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details=details)


def _of_done(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: _T = done.value
        return result
    coroutine.close()
    raise RuntimeError("gRPC called back for a call that is not done")
