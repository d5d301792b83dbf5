"""A feature's tensors as bytes, by the codec's name: array in, bytes out, and back.

"featurewire" is the universal feature codec, with a profile for each tensor or self-describing.
Its bitstreams leave out what the session has agreed on: profile, shape and grid. "dt-ufc" is the
published method, with its centres in every stream; "float16" and "float32" are the elements as
they are.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import torch
from featurewire_codec import BitstreamError, FeatureCodec, Profile
from featurewire_codec.quantiser import Effort

from featurewire.wire.limits import MAX_CHUNK_BYTES
from featurewire.wire.tensors import from_bytes, to_bytes

Grid = tuple[int, int] | None
Shape = tuple[int, int]

_RAW = {"float16": torch.float16, "float32": torch.float32}

# A coded sample can be larger than its features only by headers, padding and escapes: a peer that
# sends more than this for a sample is refused before the rest is kept.
_MAX_BYTES_PER_FEATURE = 8
_MAX_OVERHEAD_BYTES = 4096


def max_coded_bytes(features: int) -> int:
    """Bytes that one coded sample of so many feature points may have."""
    return _MAX_OVERHEAD_BYTES + _MAX_BYTES_PER_FEATURE * features


class _Method(Protocol):
    """One sample `[tokens, channels]` to bytes, in pieces of any size, and all of them back."""

    def encode(self, sample: torch.Tensor, grid: Grid, snr_db: float) -> Iterable[bytes]: ...

    def decode(self, data: bytes, shape: Shape, grid: Grid) -> torch.Tensor: ...


class _Universal:
    def __init__(self, profile: Profile | None, effort: Effort) -> None:
        self._codec = FeatureCodec(profile, framing="session")
        self._effort: Effort = effort

    def encode(self, sample: torch.Tensor, grid: Grid, snr_db: float) -> Iterable[bytes]:
        return self._codec.encode_chunks(sample, snr_db, grid, self._effort)

    def decode(self, data: bytes, shape: Shape, grid: Grid) -> torch.Tensor:
        return self._codec.decode(data, shape=shape, grid=grid)


class _DtUfc:
    def __init__(self) -> None:
        from featurewire_codec.dt_ufc import DtUfcCodec

        self._codec = DtUfcCodec()

    def encode(self, sample: torch.Tensor, grid: Grid, snr_db: float) -> Iterable[bytes]:
        return self._codec.encode_chunks(sample, snr_db, grid)

    def decode(self, data: bytes, shape: Shape, grid: Grid) -> torch.Tensor:
        from featurewire_codec.dt_ufc.stream import read_header

        header, _ = read_header(data)
        if (header.tokens, header.channels) != shape:
            raise BitstreamError(
                f"the stream holds {header.tokens} x {header.channels} feature points,"
                f" {shape[0]} x {shape[1]} were announced"
            )
        return self._codec.decode(data)


class _Raw:
    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def encode(self, sample: torch.Tensor, grid: Grid, snr_db: float) -> Iterable[bytes]:
        return [to_bytes(sample.to(self._dtype))]

    def decode(self, data: bytes, shape: Shape, grid: Grid) -> torch.Tensor:
        return from_bytes(data, self._dtype, shape).float()


class Coder:
    """Encodes and decodes the named tensors of one split point.

    Once it is made, everything is loaded that its method needs: kernels, tables, networks. That
    takes seconds the first time.

    Args:
        codec: one of `limits.CODECS`.
        profiles: the profile of each tensor that has one; only "featurewire" uses them.
        effort: how hard "featurewire" tries to save bits when it encodes.

    Raises:
        ProfileError: the networks of "dt-ufc" cannot be loaded.
    """

    def __init__(
        self, codec: str, profiles: Mapping[str, Profile], effort: Effort = "fast"
    ) -> None:
        self.codec = codec
        self._profiled: dict[str, _Method] = {}
        self._method: _Method
        if codec in _RAW:
            self._method = _Raw(_RAW[codec])
        elif codec == "dt-ufc":
            self._method = _DtUfc()
        else:
            warm_up()
            self._method = _Universal(None, effort)
            self._profiled = {
                name: _Universal(profile, effort) for name, profile in profiles.items()
            }

    def encode(self, name: str, sample: torch.Tensor, grid: Grid, snr_db: float) -> Iterator[bytes]:
        """One sample `[tokens, channels]` as pieces of at most MAX_CHUNK_BYTES.

        Raises:
            CodecError: the sample cannot be coded (NaN, another width than the profile's), or
                the profile was calibrated without this effort.
        """
        for chunk in self._of(name).encode(sample, grid, snr_db):
            yield from _pieces(chunk)

    def decode(self, name: str, data: bytes, shape: Shape, grid: Grid) -> torch.Tensor:
        """The inverse of `encode`: float32 `[tokens, channels]` from all of a sample's bytes.

        Args:
            shape: tokens and channels that were announced, within the limits.
            grid: rows and columns that were announced.

        Raises:
            CodecError: the bytes are no bitstream of this codec and this shape.
            Refusal: raw elements of another number than announced.
        """
        return self._of(name).decode(data, shape, grid)

    def _of(self, name: str) -> _Method:
        return self._profiled.get(name, self._method)


@functools.cache
def warm_up() -> None:
    """Runs the universal codec once, so that its kernels are compiled and its tables read."""
    method = _Universal(None, "fast")
    sample = torch.linspace(-1, 1, 64).reshape(1, 64)
    method.decode(b"".join(method.encode(sample, None, 25.0)), (1, 64), None)


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), MAX_CHUNK_BYTES):
        yield data[start : start + MAX_CHUNK_BYTES]
