"""The edge's own work: inputs in, coded features out, the head and the codec each on a thread.

They never run on the event loop's thread, and go on side by side: while one span of a text is
being coded, the head runs on the next one. On a GPU the thread of the head only asks for it, and
its features are copied to main memory meanwhile.
"""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.coder import Coder
from featurewire.wire.runtime import use_threads
from featurewire_models import Features, Head

from featurewire_client.chunks import chunks_of, cut, next_chunk
from featurewire_client.head_pass import HeadPass, Seconds
from featurewire_client.span import GPU_SPAN_TOKENS, Span, code_span, span_tokens

Result = TypeVar("Result")

_WAITING = 2


class Edge:
    """A head and a coder, and the threads that they run on; qualities are SNRs in dB."""

    def __init__(self, head: Head, coder: Coder) -> None:
        self.head = head
        self._coder = coder
        # one thread asks a GPU for all it does; others would spin beside it
        threads = 1 if head.device.type == "cuda" else torch.get_num_threads()
        self._torch, self._codec = (
            ThreadPoolExecutor(1, name, initializer=use_threads, initargs=(count,))
            for name, count in (("head", threads), ("encode", 1))
        )

    async def features(self, inputs: Mapping[str, torch.Tensor], seconds: Seconds) -> Features:
        """The head's features of one batch.

        Raises:
            ModelError: the head cannot run on the inputs.
        """
        return await _on(self._torch, lambda: HeadPass(self.head, inputs, None).finish(seconds))

    async def chunks(
        self, features: Features, snr_db: float, seconds: Seconds, piece_bytes: Sequence[int] = ()
    ) -> AsyncIterator[pb.Chunk]:
        """The chunks of one feature as they are coded, the next ones while one is used.

        `piece_bytes`: sizes to cut payloads to, the last one again and again; none: as coded.

        Raises:
            CodecError: the features cannot be coded.
        """
        waiting: asyncio.Queue[pb.Chunk | None] = asyncio.Queue(_WAITING)

        async def encode() -> None:
            chunks = cut(chunks_of(self._coder, features, snr_db), piece_bytes)
            while (
                chunk := await _on(self._codec, lambda: next_chunk(chunks, seconds))
            ) is not None:
                await waiting.put(chunk)
            await waiting.put(None)

        async for chunk in _drain(waiting, encode()):
            yield chunk

    def takes_spans(self, inputs: Mapping[str, torch.Tensor]) -> bool:
        """Whether the inputs are one sequence of two full spans or more, best sent span by span.

        A rest of a few tokens gains less than another pass takes. "dt-ufc" codes a feature as a
        whole: each of its streams has centres of its own.
        """
        return (
            self._coder.codec != "dt-ufc"
            and self.head.takes_spans(inputs)
            and inputs["input_ids"].shape[1] >= 2 * self._span(inputs["input_ids"])
        )

    async def spans(
        self,
        ids: torch.Tensor,
        cache: Any,
        quality: Callable[[int], Awaitable[float]],
        seconds: Seconds,
    ) -> AsyncIterator[Span]:
        """The bitstreams of a sequence `[1, tokens]`, span by span.

        `quality` says the SNR of the next one from the feature points that are left.

        Raises:
            ModelError, CodecError: as above.
        """
        size = self._span(ids)
        features: asyncio.Queue[HeadPass | None] = asyncio.Queue(1)
        coded: asyncio.Queue[Span | None] = asyncio.Queue(_WAITING)

        async def run() -> None:
            for part in torch.split(ids, max(self.head.pass_tokens, size), dim=1):
                work = functools.partial(HeadPass, self.head, {"input_ids": part}, cache)
                await features.put(await _on(self._torch, work))
            await features.put(None)

        async def encode() -> None:
            left = ids.shape[1]
            while (under_way := await features.get()) is not None:
                _, tokens, channels = under_way.shape
                for first in range(0, tokens, size):
                    last = min(first + size, tokens)
                    snr_db = await quality(left * channels)
                    left -= last - first
                    work = functools.partial(
                        code_span, self._coder, under_way, snr_db, seconds, slice(first, last)
                    )
                    await coded.put(await _on(self._codec, work))
            await coded.put(None)

        async for span in _drain(coded, run(), encode()):
            yield span

    def _span(self, ids: torch.Tensor) -> int:
        if self.head.device.type == "cuda":
            return GPU_SPAN_TOKENS
        return span_tokens(ids.shape[1])

    async def step(self, token: int, cache: Any, snr_db: float, seconds: Seconds) -> Span:
        """The bitstream of one more token of a generation.

        Raises:
            ModelError, CodecError: as above.
        """

        def work() -> Span:
            inputs = {"input_ids": torch.tensor([[token]])}
            under_way = HeadPass(self.head, inputs, cache)
            return code_span(self._coder, under_way, snr_db, seconds, slice(None))

        return await _on(self._torch, work)

    def close(self) -> None:
        self._torch.shutdown(wait=False, cancel_futures=True)
        self._codec.shutdown(wait=False, cancel_futures=True)


async def _on(thread: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(thread, work)


async def _drain(queue: "asyncio.Queue[Result | None]", *work: Any) -> AsyncIterator[Result]:
    """What tasks put on the queue, until None; their errors are raised here."""
    tasks = [asyncio.create_task(one) for one in work]
    stages = asyncio.gather(*tasks)
    item = asyncio.ensure_future(queue.get())
    try:
        while True:
            await asyncio.wait((item, stages), return_when=asyncio.FIRST_COMPLETED)
            if not item.done() and not stages.done():
                continue
            if not item.done():
                item.cancel()
                await stages  # raises what ended it early
            value = await item
            if value is None:
                return
            yield value
            item = asyncio.ensure_future(queue.get())
    finally:
        item.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(stages, item, *tasks, return_exceptions=True)
