"""A client's stream as its session's tasks use it: answers out, and when it is to end."""

import asyncio
import time

import grpc
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.status import Refusal

from featurewire_server.session import Session

Context = grpc.aio.ServicerContext[object, object]


class NotReadingError(Exception):
    """The client takes no answer."""


class GoneError(Exception):
    """The stream was cancelled or broken amid a request."""


class Stream:
    """Where a session's answers go; its tasks write one after the other, as gRPC needs it.

    A client that does not read for `patience_s`, or is gone, ends its session.

    Attributes:
        peer: the client's address.
        session: what goes on over it, once hands are shaken.
        over: done once it is to end; its result says why, where the client is to hear that.
    """

    def __init__(self, context: Context, patience_s: float) -> None:
        self._context = context
        self._patience_s = patience_s
        self._turn = asyncio.Lock()
        self._used_at = time.monotonic()
        self.peer = context.peer()  # gRPC forgets it with the connection
        self.session: Session | None = None
        self.over: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()

    @property
    def unused_s(self) -> float:
        """Seconds since anything came or went; 0 amid a handshake or a request."""
        if self.session is None or not self.session.at_rest:
            return 0.0
        return time.monotonic() - self._used_at

    async def write(self, message: pb.InferResponse) -> None:
        """Sends an answer.

        Raises:
            NotReadingError: the client does not take it.
            GoneError: it cannot be sent any more.
        """
        try:
            async with asyncio.timeout(self._patience_s), self._turn:
                await self._context.write(message)
        except TimeoutError:
            raise NotReadingError from None
        except grpc.aio.InternalError:  # what a write fails with before the cancellation is told
            raise GoneError from None
        self.used()

    def used(self) -> None:
        """Notes that something came or went."""
        self._used_at = time.monotonic()

    def end(self, refusal: Refusal | None = None) -> None:
        """Has the stream end before its next message."""
        if not self.over.done():
            self.over.set_result(refusal)
