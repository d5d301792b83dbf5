"""Coded bytes to features on the tail's device: the pieces of a request in, its features out."""

import asyncio
import math
import time
from concurrent.futures import Executor
from dataclasses import dataclass, field

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.coder import Coder, SampleDecoder
from featurewire.wire.parts import grid_of_part
from featurewire.wire.status import Refusal
from featurewire.wire.tensors import unpack
from featurewire_models import Features
from featurewire_models.transfer import upload

from featurewire_server.feature_buffer import FeatureBuffer
from featurewire_server.generation import Generation
from featurewire_server.spanned_feature import SpannedFeature

Request = FeatureBuffer | Generation | SpannedFeature

_INLINE_FEATURES = 8192  # fewer are decoded sooner than another thread takes over
_SAMPLE_FEATURES = 1024  # that take as long as what comes with every sample


@dataclass(frozen=True)
class Coded:
    """Bytes of one sample, or of one span of a sequence, which has no grid.

    Attributes:
        shape: its tokens and channels.
        starts: its first bytes.
        is_whole: all of its bytes, as of a span or a part.
        completes: the last bytes of the feature, or of the span.
    """

    request: Request
    tensor: str
    shape: tuple[int, int]
    grid: tuple[int, int] | None
    payload: bytes
    starts: bool = True
    completes: bool = True
    is_whole: bool = False


@dataclass(frozen=True)
class Decoded:
    """A feature, or a span of a sequence, ready for the tail."""

    request: Request
    features: Features
    decode_s: float


@dataclass
class _Samples:
    """What has come of one feature: its samples or parts, whole or not yet, and their time."""

    of_tensor: dict[str, list[SampleDecoder | torch.Tensor]] = field(default_factory=dict)
    features: int = 0
    seconds: float = 0.0


class Decoding:
    """One feature after the other, several at a time where there are threads for it.

    Args:
        coder: of the session's terms.
        device: where the tail runs.
        threads: for what would keep the event loop waiting.
    """

    def __init__(self, coder: Coder, device: torch.device, threads: Executor) -> None:
        self._coder = coder
        self._device = device
        self._threads = threads
        self._samples = _Samples()

    def begin(self, coded: Coded) -> "asyncio.Future[Decoded | None]":
        """Decodes what has come: of one feature, once what came before is decoded.

        The future has the feature with the last of it, else None; or

            CodecError: a bitstream is damaged.
            Refusal: a tensor is malformed.
        """
        loop = asyncio.get_running_loop()
        samples = self._samples
        if coded.completes:
            self._samples = _Samples()
        if coded.starts:
            samples.features += max(math.prod(coded.shape), _SAMPLE_FEATURES)
        # with the last bytes all samples may be decoded
        features = samples.features if coded.completes else math.prod(coded.shape)
        few = features <= _INLINE_FEATURES and self._coder.codec != "dt-ufc"
        if not few:
            return loop.run_in_executor(self._threads, self._decode, coded, samples)
        decoding: asyncio.Future[Decoded | None] = loop.create_future()
        decoding.set_result(self._decode(coded, samples))
        return decoding

    def _decode(self, coded: Coded, samples: _Samples) -> Decoded | None:
        """The features are on the tail's device then, while that may still compute others."""
        started = time.perf_counter()
        of_it = samples.of_tensor.setdefault(coded.tensor, [])
        if coded.starts:
            of_it.append(self._coder.decoder(coded.tensor, coded.shape, coded.grid))
        decoder = of_it[-1]
        assert not isinstance(decoder, torch.Tensor)
        decoder.feed(coded.payload)
        if coded.is_whole:
            of_it[-1] = decoder.finish()
        features = self._finish(samples, coded.request.begin) if coded.completes else None
        samples.seconds += time.perf_counter() - started
        return Decoded(coded.request, features, samples.seconds) if features else None

    def _finish(self, samples: _Samples, begin: pb.Begin) -> Features:
        tensors = {}
        for tensor in begin.tensors:  # whose samples may have come in parts
            of_it = samples.of_tensor[tensor.name]
            rows = [one if isinstance(one, torch.Tensor) else one.finish() for one in of_it]
            batch = torch.cat(rows).reshape(tensor.batch, -1, tensor.channels)
            tensors[tensor.name] = upload(batch, self._device)
        grids = {tensor.name: grid for tensor in begin.tensors if (grid := grid_of(tensor))}
        return Features(tensors, grids, unpack(begin.uncoded))


def part_grid(tensor: pb.CodedTensor, part: range) -> tuple[int, int] | None:
    """The grid of a part of a sample.

    Raises:
        Refusal: it is not of whole rows.
    """
    try:
        return grid_of_part(tensor.tokens, grid_of(tensor), part)
    except ValueError as error:
        raise Refusal("TENSOR_MALFORMED", str(error)) from error


def grid_of(tensor: pb.CodedTensor) -> tuple[int, int] | None:
    """The tensor's rows and columns, where it has a grid."""
    grid = (tensor.grid_rows, tensor.grid_columns)
    return grid if all(grid) else None
