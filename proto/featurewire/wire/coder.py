"""A feature's tensors as bytes, by the codec's name: array in, bytes out, and back.

"featurewire" is the universal feature codec, with a profile for each tensor or self-describing.
Its bitstreams leave out what the session has agreed on: profile, shape and grid. "dt-ufc" is the
published method, with its centres in every stream; "float16" and "float32" are the elements as
they are.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import torch
from featurewire_codec import BitstreamError, FeatureCodec, Profile
from featurewire_codec.quantiser import Effort
from featurewire_codec.session_framing import is_framed

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


class SampleDecoder(Protocol):
    """Takes one coded sample in pieces, as they come."""

    def feed(self, data: bytes) -> None:
        """Takes the next piece, and decodes what it completes.

        Raises:
            CodecError: the bytes are no bitstream of this codec and this shape.
        """

    def finish(self) -> torch.Tensor:
        """The sample, float32 `[tokens, channels]`, once all pieces are in.

        Raises:
            CodecError: as `feed`, or bytes are missing.
            Refusal: raw elements of another number than announced.
        """


class _Method(Protocol):
    """One sample `[tokens, channels]` to bytes, in pieces of any size, and all of them back."""

    def encode(self, sample: torch.Tensor, grid: Grid, snr_db: float) -> Iterable[bytes]: ...

    def decoder(self, shape: Shape, grid: Grid) -> SampleDecoder: ...


class _Whole:
    """Decodes a sample once all of it is there."""

    def __init__(self, decode: Callable[[bytes], torch.Tensor]) -> None:
        self._decode = decode
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self._pieces.append(data)

    def finish(self) -> torch.Tensor:
        return self._decode(b"".join(self._pieces))


class _Chunks:
    """Decodes a session's bitstream of several chunks as they come; one of one chunk as a whole."""

    def __init__(self, codec: FeatureCodec, shape: Shape, grid: Grid) -> None:
        self._whole = _Whole(lambda data: codec.decode(data, shape=shape, grid=grid))
        self._decoder = codec.decoder(shape, grid)
        self._is_framed: bool | None = None
        self._sample = torch.empty(0)
        self._shape = shape

    def feed(self, data: bytes) -> None:
        if self._is_framed is None and data:
            self._is_framed = is_framed(data)  # else, or of a first piece of one byte: as a whole
        if not self._is_framed:
            self._whole.feed(data)
            return
        for tokens, values in self._decoder.feed(data):
            if not self._sample.numel():
                self._sample = torch.empty(self._shape)
            self._sample[tokens.start : tokens.stop] = values

    def finish(self) -> torch.Tensor:
        if not self._is_framed:
            return self._whole.finish()
        self._decoder.finish()
        return self._sample


class _Universal:
    def __init__(self, profile: Profile | None, effort: Effort) -> None:
        self._codec = FeatureCodec(profile, framing="session")
        self._effort: Effort = effort

    def encode(self, sample: torch.Tensor, grid: Grid, snr_db: float) -> Iterable[bytes]:
        return self._codec.encode_chunks(sample, snr_db, grid, self._effort)

    def decoder(self, shape: Shape, grid: Grid) -> SampleDecoder:
        return _Chunks(self._codec, shape, grid)

    def warm_up(self) -> None:
        """Codes a sample there and back, so that no request loads the loops that it needs."""
        profile, grid, shape = self._codec.profile, None, (1, 64)
        if profile is not None:
            side = getattr(profile.transform, "block", 1)
            grid, shape = (side, side) if side > 1 else None, (side * side, profile.channels)
        sample = torch.linspace(0.5, 1, shape[0] * shape[1]).reshape(shape)
        decoder = self.decoder(shape, grid)
        for piece in self.encode(sample, grid, 15.0):
            decoder.feed(piece)
        decoder.finish()


class _DtUfc:
    def __init__(self) -> None:
        from featurewire_codec.dt_ufc import DtUfcCodec

        self._codec = DtUfcCodec()

    def encode(self, sample: torch.Tensor, grid: Grid, snr_db: float) -> Iterable[bytes]:
        return self._codec.encode_chunks(sample, snr_db, grid)

    def decoder(self, shape: Shape, grid: Grid) -> SampleDecoder:
        return _Whole(lambda data: self._decode(data, shape))

    def _decode(self, data: bytes, shape: Shape) -> torch.Tensor:
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

    def decoder(self, shape: Shape, grid: Grid) -> SampleDecoder:
        return _Whole(lambda data: from_bytes(data, self._dtype, shape).float())


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
        self._profiled: dict[str, _Universal] = {}
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
            for method in self._profiled.values():
                method.warm_up()

    def encode(self, name: str, sample: torch.Tensor, grid: Grid, snr_db: float) -> Iterator[bytes]:
        """One sample `[tokens, channels]` as pieces of at most MAX_CHUNK_BYTES.

        Raises:
            CodecError: the sample cannot be coded (NaN, another width than the profile's), or
                the profile was calibrated without this effort.
        """
        for chunk in self._of(name).encode(sample, grid, snr_db):
            yield from _pieces(chunk)

    def decoder(self, name: str, shape: Shape, grid: Grid) -> SampleDecoder:
        """The inverse of `encode`, for one sample that arrives in pieces.

        Args:
            shape: tokens and channels that were announced, within the limits.
            grid: rows and columns that were announced.

        Raises:
            CodecError: the codec has no such shape.
        """
        return self._of(name).decoder(shape, grid)

    def _of(self, name: str) -> _Method:
        return self._profiled.get(name, self._method)


@functools.cache
def warm_up() -> None:
    """Runs the universal codec once, so that its kernels are compiled and its tables read."""
    _Universal(None, "fast").warm_up()


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), MAX_CHUNK_BYTES):
        yield data[start : start + MAX_CHUNK_BYTES]
