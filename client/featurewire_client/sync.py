"""The same client without `async`, for notebooks and scripts: one event loop on its own thread."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

import torch
from featurewire.wire.runtime import new_event_loop

from featurewire_client.client import InferResult, SplitClient
from featurewire_client.errors import ClientError
from featurewire_client.stats import InferStats

Result = TypeVar("Result")

_END = object()


class SyncSplitClient:
    """SplitClient for code that cannot await; it takes the same arguments.

    Example:
        with SyncSplitClient("localhost:50051", model="tiny-llama3") as client:
            for piece in client.generate("Return the", max_tokens=20):
                print(piece, end="")
    """

    def __init__(self, address: str, model: str, **options: Any) -> None:
        self._make: Callable[[], SplitClient] = lambda: SplitClient(address, model, **options)

    def __enter__(self) -> Self:
        self._loop = new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="featurewire", daemon=True)
        self._thread.start()
        try:
            self._client = self._wait(self._enter())
        except BaseException:
            self._stop_loop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._wait(self._client.__aexit__(kind, error, trace))
        finally:
            self._stop_loop()

    @property
    def last_stats(self) -> InferStats | None:
        """The account of the last request or generation."""
        return self._client.last_stats

    def infer(self, inputs: dict[str, torch.Tensor], outputs: Sequence[str] = ()) -> InferResult:
        """As `SplitClient.infer`."""
        return self._wait(self._client.infer(inputs, outputs))

    def generate(self, prompt: str, **options: Any) -> Iterator[str]:
        """As `SplitClient.generate`."""
        pieces: AsyncGenerator[str, None] = self._client.generate(prompt, **options)
        try:
            while (piece := self._wait(_next(pieces))) is not _END:
                yield str(piece)
        finally:
            self._wait(_close(pieces))

    async def _enter(self) -> SplitClient:
        return await self._make().__aenter__()

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        if self._loop.is_closed():
            work.close()
            raise ClientError("the client is closed: it takes calls within `with` only")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next(pieces: AsyncGenerator[str, None]) -> object:
    return await anext(pieces, _END)


async def _close(pieces: AsyncGenerator[str, None]) -> None:
    await pieces.aclose()
