"""The edge's own work: inputs in, coded features out, head and codec on threads of their own.

They never run on the event loop's thread, and go on side by side: while spans of a text are being
coded, the head runs on the next one. On a GPU the thread of the head only asks for it, and its
features are copied to main memory meanwhile.
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any, TypeVar

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.coder import Coder
from featurewire.wire.parts import PART_POINTS, grid_of_part, parts_of
from featurewire.wire.runtime import coding_threads, use_threads
from featurewire_models import Features, Head

from featurewire_client.chunks import chunks_of, cut, next_chunk
from featurewire_client.head_pass import HeadPass, Seconds
from featurewire_client.span import GPU_SPAN_TOKENS, Span, code_rows, code_span, span_tokens

Result = TypeVar("Result")

_WAITING = 2


class Edge:
    """A head and a coder, and the threads that they run on; qualities are SNRs in dB."""

    def __init__(self, head: Head, coder: Coder) -> None:
        self.head = head
        self._coder = coder
        self.encoders = coding_threads()
        """How many spans are coded at once."""
        # one thread asks a GPU for all it does; others would spin beside it
        threads = 1 if head.device.type == "cuda" else torch.get_num_threads()
        self._torch, self._codec = (
            ThreadPoolExecutor(workers, name, initializer=use_threads, initargs=(count,))
            for name, workers, count in (("head", 1, threads), ("encode", self.encoders, 1))
        )

    async def features(self, inputs: Mapping[str, torch.Tensor], seconds: Seconds) -> Features:
        """The head's features of one batch.

        Raises:
            ModelError: the head cannot run on the inputs.
        """
        return await _on(self._torch, lambda: HeadPass(self.head, inputs, None).finish(seconds))

    async def chunks(
        self, features: Features, snr_db: float, seconds: Seconds, piece_bytes: Sequence[int] = ()
    ) -> AsyncGenerator[pb.Chunk, None]:
        """The chunks of one feature as they are coded, the next ones while one is used.

        `piece_bytes`: sizes to cut payloads to, the last one again and again; none: as coded.

        Raises:
            CodecError: the features cannot be coded.
        """
        waiting: asyncio.Queue[pb.Chunk | None] = asyncio.Queue(_WAITING)

        async def encode() -> None:
            chunks = cut(chunks_of(self._coder, features, snr_db), piece_bytes)
            work = functools.partial(next_chunk, chunks, seconds)
            while (chunk := await _on(self._codec, work)) is not None:
                await waiting.put(chunk)
            await waiting.put(None)

        async with contextlib.aclosing(_drain(waiting, encode())) as coded:
            async for chunk in coded:
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
        quality: float | Callable[[int], Awaitable[float]],
        seconds: Seconds,
    ) -> AsyncGenerator[Span, None]:
        """The bitstreams of a sequence `[1, tokens]`, span by span.

        `quality`: the SNR; or what says that of the next span from the feature points that are
        left, once all before it are coded.

        Raises:
            ModelError, CodecError: as above.
        """
        size = self._span(ids)
        features: asyncio.Queue[HeadPass | None] = asyncio.Queue(1)
        coded: asyncio.Queue[asyncio.Future[Span] | None] = asyncio.Queue(_WAITING)

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
                    snr_db = await quality(left * channels) if callable(quality) else quality
                    left -= last - first
                    work = functools.partial(
                        code_span, self._coder, under_way, snr_db, seconds, slice(first, last)
                    )
                    span = _code(self._codec, work, seconds)
                    await coded.put(span)
                    if callable(quality):
                        await asyncio.wait([span])
            await coded.put(None)

        async with contextlib.aclosing(_drain(coded, run(), encode())) as spans:
            async for span in spans:
                yield await span

    def takes_parts(self, features: Features) -> bool:
        """Whether a feature is long enough to be coded in parts, each with a quality of its own."""
        points = sum(tensor.numel() for tensor in features.tensors.values())
        return self._coder.codec == "featurewire" and points > PART_POINTS

    async def parts(
        self, features: Features, quality: Callable[[int], Awaitable[float]], seconds: Seconds
    ) -> AsyncGenerator[Span, None]:
        """The bitstreams of one feature: of every sample, part by part.

        `quality` says the SNR of the next one from the feature points that are left.

        Raises:
            CodecError: as above.
        """
        coded: asyncio.Queue[Span | None] = asyncio.Queue(_WAITING)

        async def encode() -> None:
            left = sum(tensor.numel() for tensor in features.tensors.values())
            for index, (name, tensor) in enumerate(features.tensors.items()):
                grid, (_, tokens, channels) = features.grids.get(name), tensor.shape
                for number, part in product(range(len(tensor)), parts_of((tokens, channels), grid)):
                    snr_db = await quality(left)
                    left -= len(part) * channels
                    rows = tensor[number, part.start : part.stop]
                    part_grid = grid_of_part(tokens, grid, part)
                    place = index, number, not left
                    work = functools.partial(
                        code_rows, self._coder, name, rows, part_grid, snr_db, *place
                    )
                    await coded.put(await _code(self._codec, work, seconds))
            await coded.put(None)

        async with contextlib.aclosing(_drain(coded, encode())) as parts:
            async for part in parts:
                yield part

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

        return await _code(self._torch, work, seconds)

    def close(self) -> None:
        self._torch.shutdown(wait=False, cancel_futures=True)
        self._codec.shutdown(wait=False, cancel_futures=True)


def _on(threads: ThreadPoolExecutor, work: Callable[[], Result]) -> asyncio.Future[Result]:
    return asyncio.get_running_loop().run_in_executor(threads, work)


def _code(
    threads: ThreadPoolExecutor, work: Callable[[], Span], seconds: Seconds
) -> asyncio.Future[Span]:
    """A span, which is counted in once it is coded, before anyone takes it."""

    def count(coding: asyncio.Future[Span]) -> None:
        if not coding.cancelled() and coding.exception() is None:
            span = coding.result()
            seconds.count(span.encode_s, span.payload_bytes)

    coding = _on(threads, work)
    coding.add_done_callback(count)
    return coding


async def _drain(queue: "asyncio.Queue[Result | None]", *work: Any) -> AsyncGenerator[Result, None]:
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
