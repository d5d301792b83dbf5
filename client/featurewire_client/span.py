"""Tokens that are coded together, of a sequence or a long feature: features in, a bitstream out."""

import time
from dataclasses import dataclass

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.coder import Coder

from featurewire_client.head_pass import HeadPass, Seconds

# of a sequence, coded together; a GPU hands over many at once, and longer bitstreams are shorter
SPAN_TOKENS, LONG_SPAN_TOKENS, GPU_SPAN_TOKENS = 64, 128, 256
_LONG_TOKENS = 512  # from here on fewer passes save more than finer overlap does


@dataclass(frozen=True)
class Span:
    """Coded tokens of a sequence, or of one sample of a long feature.

    Attributes:
        name, channels: of their tensor.
        snr_db: the quality that was asked for.
        chunks: the bitstream.
        encode_s: how long that took.
    """

    name: str
    channels: int
    snr_db: float
    chunks: list[pb.Chunk]
    encode_s: float

    @property
    def points(self) -> int:
        """Feature points."""
        return self.channels * sum(chunk.tokens for chunk in self.chunks)

    @property
    def payload_bytes(self) -> int:
        """Coded bytes."""
        return sum(len(chunk.payload) for chunk in self.chunks)


def span_tokens(tokens: int) -> int:
    """How many of a sequence's tokens a span has, where the head is on a CPU."""
    return LONG_SPAN_TOKENS if tokens >= _LONG_TOKENS else SPAN_TOKENS


def code_span(
    coder: Coder, under_way: HeadPass, snr_db: float, seconds: Seconds, tokens: slice
) -> Span:
    """One bitstream of a sequence, of some tokens of a pass, once the head is done with it."""
    ((name, tensor),) = under_way.finish(seconds).tensors.items()
    return code_rows(coder, name, tensor[0, tokens], None, snr_db)


def code_rows(
    coder: Coder,
    name: str,
    rows: torch.Tensor,
    grid: tuple[int, int] | None,
    snr_db: float,
    tensor: int = 0,
    sample: int = 0,
    last: bool = False,
) -> Span:
    """One bitstream of tokens `[tokens, channels]` of a tensor's sample; `last`: of the feature."""
    started = time.perf_counter()
    pieces = coder.encode(name, rows, grid, snr_db)
    chunks = [pb.Chunk(tensor=tensor, sample=sample, payload=piece) for piece in pieces]
    chunks[-1].tokens, chunks[-1].last = len(rows), last
    return Span(name, rows.shape[1], snr_db, chunks, time.perf_counter() - started)
