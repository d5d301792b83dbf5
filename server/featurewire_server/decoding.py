"""Coded bytes to features on the tail's device: the pieces of a request in, its features out."""

import asyncio
import math
import time
from concurrent.futures import Executor
from dataclasses import dataclass

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.coder import Coder, SampleDecoder
from featurewire.wire.tensors import unpack
from featurewire_models import Features
from featurewire_models.transfer import upload

from featurewire_server.feature_buffer import FeatureBuffer
from featurewire_server.generation import Generation
from featurewire_server.spanned_feature import SpannedFeature

Request = FeatureBuffer | Generation | SpannedFeature

_INLINE_FEATURES = 8192  # fewer are decoded sooner than another thread takes over


@dataclass(frozen=True)
class Coded:
    """Bytes of one sample, or of one span of a sequence, which has no grid.

    Attributes:
        shape: its tokens and channels.
        starts: its first bytes.
        completes: the last bytes of the feature, or of the span.
    """

    request: Request
    tensor: str
    shape: tuple[int, int]
    grid: tuple[int, int] | None
    payload: bytes
    starts: bool = True
    completes: bool = True


@dataclass(frozen=True)
class Decoded:
    """A feature, or a span of a sequence, ready for the tail."""

    request: Request
    features: Features
    decode_s: float


class Decoding:
    """One feature after the other.

    Args:
        coder: of the session's terms.
        device: where the tail runs.
        threads: for what would keep the event loop waiting.
    """

    def __init__(self, coder: Coder, device: torch.device, threads: Executor) -> None:
        self._coder = coder
        self._device = device
        self._threads = threads
        self._samples: dict[str, list[SampleDecoder]] = {}
        self._seconds = 0.0

    async def add(self, coded: Coded) -> Decoded | None:
        """Decodes what has come; the feature with the last of it.

        Raises:
            CodecError: a bitstream is damaged.
            Refusal: a tensor is malformed.
        """
        if math.prod(coded.shape) <= _INLINE_FEATURES and self._coder.codec != "dt-ufc":
            return self._decode(coded)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._decode, coded)

    def _decode(self, coded: Coded) -> Decoded | None:
        """The features are on the tail's device then, while that may still compute others."""
        started = time.perf_counter()
        samples = self._samples.setdefault(coded.tensor, [])
        if coded.starts:
            samples.append(self._coder.decoder(coded.tensor, coded.shape, coded.grid))
        samples[-1].feed(coded.payload)
        features = self._finish(coded.request.begin) if coded.completes else None
        self._seconds += time.perf_counter() - started
        if features is None:
            return None
        decoded = Decoded(coded.request, features, self._seconds)
        self._samples, self._seconds = {}, 0.0
        return decoded

    def _finish(self, begin: pb.Begin) -> Features:
        tensors = {
            name: upload(torch.stack([sample.finish() for sample in samples]), self._device)
            for name, samples in self._samples.items()
        }
        grids = {tensor.name: grid for tensor in begin.tensors if (grid := grid_of(tensor))}
        return Features(tensors, grids, unpack(begin.uncoded))


def grid_of(tensor: pb.CodedTensor) -> tuple[int, int] | None:
    """The tensor's rows and columns, where it has a grid."""
    grid = (tensor.grid_rows, tensor.grid_columns)
    return grid if all(grid) else None
