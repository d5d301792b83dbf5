"""The edge's own work: inputs in, coded features out, the head and the codec each on a thread.

They never run on the event loop's thread, and go on side by side: while one span of a text is
being coded, the head runs on the next one. On a GPU the thread of the head only asks for it, and
its features are copied to main memory meanwhile.
"""

import asyncio
import functools
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.coder import Coder
from featurewire.wire.runtime import use_threads
from featurewire_codec.encoder import CHUNK_FEATURES
from featurewire_models import Features, Head
from featurewire_models.transfer import Download, Stopwatch

Result = TypeVar("Result")

# of a sequence, coded together; a GPU hands over many at once, and longer bitstreams are shorter
SPAN_TOKENS, LONG_SPAN_TOKENS, GPU_SPAN_TOKENS = 64, 128, 256
_LONG_TOKENS = 512  # from here on fewer passes save more than finer overlap does
_WAITING = 2


@dataclass
class Seconds:
    """What one request's stages took so far, and the feature points and coded bytes they made."""

    head: float = 0.0
    encode: float = 0.0
    points: int = 0
    payload_bytes: int = 0


@dataclass(frozen=True)
class Span:
    """Coded tokens of a sequence: their tensor's name and channels, quality, and the chunks."""

    name: str
    channels: int
    snr_db: float
    chunks: list[pb.Chunk]

    @property
    def points(self) -> int:
        """Feature points."""
        return self.channels * sum(chunk.tokens for chunk in self.chunks)

    @property
    def payload_bytes(self) -> int:
        """Coded bytes."""
        return sum(len(chunk.payload) for chunk in self.chunks)


class _HeadPass:
    """One pass of a head, on a GPU yet to be done when this is made."""

    def __init__(self, head: Head, inputs: Mapping[str, torch.Tensor], cache: Any) -> None:
        watch = Stopwatch(head.device)
        with torch.inference_mode():
            self._features = head(inputs, cache=cache) if cache is not None else head(inputs)
            watch.stop()
            self._copies = Download(self._features.tensors)
        self._watch = watch
        self._counted = False

    @property
    def shape(self) -> torch.Size:
        """Batch, tokens and channels of its one tensor."""
        (tensor,) = self._features.tensors.values()
        return tensor.shape

    def finish(self, seconds: Seconds) -> Features:
        """The features in main memory; may be called on another thread, and again."""
        features = replace(self._features, tensors=self._copies.wait())
        if not self._counted:
            seconds.head += self._watch.seconds()
            seconds.points += sum(tensor.numel() for tensor in features.tensors.values())
            self._counted = True
        return features


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
        return await _on(self._torch, lambda: _HeadPass(self.head, inputs, None).finish(seconds))

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
            chunks = cut(_chunks(self._coder, features, snr_db), piece_bytes)
            while (chunk := await _on(self._codec, lambda: _timed(chunks, seconds))) is not None:
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
        features: asyncio.Queue[_HeadPass | None] = asyncio.Queue(1)
        coded: asyncio.Queue[Span | None] = asyncio.Queue(_WAITING)

        async def run() -> None:
            for part in torch.split(ids, max(self.head.pass_tokens, size), dim=1):
                work = functools.partial(_HeadPass, self.head, {"input_ids": part}, cache)
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
                        _span, self._coder, under_way, snr_db, seconds, slice(first, last)
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
            under_way = _HeadPass(self.head, inputs, cache)
            return _span(self._coder, under_way, snr_db, seconds, slice(None))

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


def span_tokens(tokens: int) -> int:
    """How many of a sequence's tokens a span has, where the head is on a CPU."""
    return LONG_SPAN_TOKENS if tokens >= _LONG_TOKENS else SPAN_TOKENS


def is_long(points: int) -> bool:
    """Whether so many feature points are coded in several chunks, sent as they come."""
    return points > CHUNK_FEATURES


def _chunks(coder: Coder, features: Features, snr_db: float) -> Iterator[pb.Chunk]:
    """Every sample of every tensor, one bitstream each; the last chunk says that it is.

    A small feature's last chunk is held back until it is known to be the last. One of many chunks
    ends with an empty one instead: none of them waits for the next to be coded.
    """
    long = is_long(sum(tensor.numel() for tensor in features.tensors.values()))
    held = pb.Chunk()
    for index, (name, tensor) in enumerate(features.tensors.items()):
        for number, sample in enumerate(tensor):
            for piece in coder.encode(name, sample, features.grids.get(name), snr_db):
                if held.payload:
                    yield held
                held = pb.Chunk(tensor=index, sample=number, payload=piece)
                if long:
                    yield held
                    held = pb.Chunk(tensor=index, sample=number)
    held.last = True
    yield held


def cut(chunks: Iterable[pb.Chunk], sizes: Sequence[int]) -> Iterator[pb.Chunk]:
    """Chunks cut into smaller ones of these sizes, the last size again and again; none: as is."""
    place = 0
    for chunk in chunks:
        payload = chunk.payload
        while sizes and len(payload) > (size := sizes[min(place, len(sizes) - 1)]):
            yield pb.Chunk(tensor=chunk.tensor, sample=chunk.sample, payload=payload[:size])
            payload, place = payload[size:], place + 1
        if len(payload) == len(chunk.payload):
            yield chunk
            continue
        rest = pb.Chunk(tensor=chunk.tensor, sample=chunk.sample, payload=payload)
        rest.last, rest.tokens = chunk.last, chunk.tokens
        yield rest


def _timed(chunks: Iterator[pb.Chunk], seconds: Seconds) -> pb.Chunk | None:
    started = time.perf_counter()
    chunk = next(chunks, None)
    seconds.encode += time.perf_counter() - started
    seconds.payload_bytes += len(chunk.payload) if chunk is not None else 0
    return chunk


def _span(
    coder: Coder, under_way: _HeadPass, snr_db: float, seconds: Seconds, tokens: slice
) -> Span:
    """One bitstream of a sequence, of some tokens of a pass, once the head is done with it."""
    ((name, tensor),) = under_way.finish(seconds).tensors.items()
    started = time.perf_counter()
    rows = tensor[0, tokens]
    chunks = [pb.Chunk(payload=piece) for piece in coder.encode(name, rows, None, snr_db)]
    chunks[-1].tokens = len(rows)
    span = Span(name, tensor.shape[2], snr_db, chunks)
    seconds.payload_bytes += span.payload_bytes
    seconds.encode += time.perf_counter() - started
    return span
