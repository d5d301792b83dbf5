"""The codec: composes the stages. Features in, bitstreams out, and back.

    feature -> transform -> quantiser -> entropy model -> entropy coder -> bitstream

Arrays up to the entropy coder, whose words and bit fields the bitstream frames as bytes.
"""

import functools
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .bitstream import (
    DIGEST_BYTES,
    MAX_CHANNELS,
    MAX_CHUNK_FEATURES,
    MAX_FEATURES,
    MAX_TOKENS,
    Chunk,
    Header,
    read_chunk,
    read_chunk_length,
    read_header,
    write_chunk,
    write_header,
)
from .entropy_coder import Model, RunDecoder, encode_runs, make_model, pack_fields, unpack_fields
from .entropy_model import (
    Symbols,
    classes_and_raw_bits,
    coding_order,
    escapes,
    from_symbols,
    levels,
    quarter_octave,
    to_symbols,
)
from .errors import BitstreamError, ChunkError, FeatureError, ProfileError
from .exponents import column_levels, row_exponents
from .feature import Feature, as_array, energy
from .profile import Profile
from .quantiser import (
    MAX_STEP_EXPONENT,
    MIN_STEP_EXPONENT,
    dequantise,
    nearest_step_exponent,
    quantise,
    step_size,
)
from .tables import CLASSES, MAX_EXPONENT, Tables, load_tables
from .transform import BlockDct, Geometry, Identity, Layout, Transform

if TYPE_CHECKING:
    import torch

CHUNK_FEATURES = 1 << 18  # about 64 KiB at 2 bits a feature
MIN_SNR_DB, MAX_SNR_DB = -30.0, 120.0
# The fall-back to plain coding must be this much cheaper by a rough count of bits.
_PLAIN_ADVANTAGE = 0.97
_SEARCH_FEATURES = 1 << 16


class Rows(NamedTuple):
    """Decoded tokens: which ones, and their values torch.float32[len(tokens), channels]."""

    tokens: range
    values: "torch.Tensor"


class FeatureCodec:
    """Encodes and decodes features of one profile, or self-describing ones without a profile.

    It holds no state between calls and may be shared by threads.
    """

    def __init__(self, profile: Profile | None = None) -> None:
        """Without a profile, bitstreams are self-describing: larger, but for any feature."""
        self.profile = profile

    def encode(
        self, feature: Feature, snr_db: float = 25.0, grid: tuple[int, int] | None = None
    ) -> bytes:
        """Encode one feature [tokens, channels] of any float type to a bitstream.

        `snr_db` sets the target MSE = E * 10^(-snr_db/10). With a profile E is the calibrated
        domain's, so the SNR holds on average; without one, it is this feature's. With `grid`,
        tokens = prefix + rows * columns.

        Raises:
            FeatureError: not a finite float feature, or of a shape, grid or SNR out of range.
            ProfileError: the profile is for features of another width.
        """
        return b"".join(self.encode_chunks(feature, snr_db, grid))

    def encode_chunks(
        self, feature: Feature, snr_db: float = 25.0, grid: tuple[int, int] | None = None
    ) -> Iterator[bytes]:
        """Encode like `encode`, chunk by chunk; the header is at the start of the first."""
        array = as_array(feature)
        geometry = Geometry(*array.shape, grid=grid)
        self._check(geometry, snr_db)
        own_energy = energy(array) if self.profile is None else None
        if self.profile is not None:
            step_exponent = self.profile.step_exponent(snr_db)
        else:
            step_exponent = _search_step_exponent(array, own_energy or 1.0, snr_db)
        if not MIN_STEP_EXPONENT <= step_exponent <= MAX_STEP_EXPONENT:
            raise FeatureError(
                f"an SNR of {snr_db} dB needs a step of 2^{step_exponent / 32:.0f}, beyond "
                "2^-80 to 2^64: scale the feature"
            )
        digest = bytes.fromhex(self.profile.digest)[:DIGEST_BYTES] if self.profile else None
        header = Header(*array.shape, step_exponent, grid, digest, own_energy)
        return self._chunks(array, geometry, header)

    def decode(self, data: bytes, device: "torch.device | str" = "cpu") -> "torch.Tensor":
        """Decode a whole bitstream to torch.float32[tokens, channels].

        Raises:
            BitstreamError: bytes are damaged, missing or left over.
            ProfileError: the bitstream was made with another profile.
        """
        import torch

        decoder = self.decoder()
        parts = sorted(decoder.feed(data), key=lambda rows: rows.tokens.start)
        decoder.finish()
        return torch.cat([rows.values for rows in parts]).to(device)

    def decoder(self) -> "Decoder":
        """Return a decoder for one bitstream that arrives in pieces."""
        return Decoder(self.profile)

    def _check(self, geometry: Geometry, snr_db: float) -> None:
        tokens, channels, grid = geometry.tokens, geometry.channels, geometry.grid
        if not MIN_SNR_DB <= snr_db <= MAX_SNR_DB:
            raise FeatureError(f"snr_db is {snr_db}, {MIN_SNR_DB:g} to {MAX_SNR_DB:g} is allowed")
        if tokens > MAX_TOKENS or channels > MAX_CHANNELS or tokens * channels > MAX_FEATURES:
            raise FeatureError(
                f"a feature of {tokens} x {channels} is beyond {MAX_TOKENS} tokens, "
                f"{MAX_CHANNELS} channels or {MAX_FEATURES} values"
            )
        if grid and not (min(grid) > 0 and geometry.prefix >= 0):
            raise FeatureError(f"a grid of {grid[0]} x {grid[1]} is not within {tokens} tokens")
        if self.profile is None:
            return
        if channels != self.profile.channels:
            raise ProfileError(
                f"the feature has {channels} channels, the profile is for {self.profile.channels}"
            )
        if isinstance(self.profile.transform, BlockDct):
            if grid is None:
                raise FeatureError("the profile transforms blocks of a grid: give grid=(rows, cols)")
            band = geometry.prefix + self.profile.transform.block * grid[1]
            if band * channels > MAX_CHUNK_FEATURES:
                raise FeatureError(f"one band of the grid has over {MAX_CHUNK_FEATURES} values")

    def _chunks(
        self, array: NDArray[np.float32], geometry: Geometry, header: Header
    ) -> Iterator[bytes]:
        lead = header_bytes = write_header(header)
        transform = self.profile.transform if self.profile else _plain(geometry.channels)
        for span in transform.spans(geometry, CHUNK_FEATURES):
            chunk = self._encode_span(array[span.start : span.stop], geometry, span, header)
            yield lead + write_chunk(chunk, header, header_bytes)
            lead = b""

    def _encode_span(
        self, feature: NDArray[np.float32], geometry: Geometry, span: range, header: Header
    ) -> Chunk:
        scale = np.float32(1.0 / step_size(header.step_exponent))
        plain_magnitude = np.abs(feature) * scale
        if self.profile is not None:
            transform = self.profile.transform
            values = transform.forward(feature, geometry, span)
            cost = _rough_bits(np.abs(values) * scale)
            if _rough_bits(plain_magnitude.ravel()) > _PLAIN_ADVANTAGE * cost:
                layout = transform.layout(geometry, span)
                assert layout is not None  # the span is one of the transform's own
                scales = _profile_scales(self.profile, layout, header.step_exponent)
                return encode_indices(span, *_quantised(values, scales, header.step_exponent))
        scales = _plain_scales(plain_magnitude, header.step_exponent)
        return encode_indices(span, *_quantised(feature.ravel(), scales, header.step_exponent))


@dataclass(frozen=True, eq=False)
class Scales:
    """What says how large each coefficient of a chunk is expected to be.

    plain, base: as in `bitstream.Chunk`. layout: of the coefficients. offsets int32[n]: of each
    coefficient. column_exponents int32[columns] of a plain chunk (zero when none are sent), and
    row_exponents int32[rows].
    """

    plain: bool
    base: int
    layout: Layout
    offsets: NDArray[np.int32]
    column_exponents: NDArray[np.int32]
    row_exponents: NDArray[np.int32]

    def levels(self, step_exponent: int) -> NDArray[np.int32]:
        """Return the level int32[n] of each coefficient."""
        shift = self.base - quarter_octave(step_exponent)
        return levels(self.offsets, self.layout.row, self.row_exponents, shift)


def encode_indices(
    tokens: range, indices: NDArray[np.int32], scales: Scales, step_exponent: int
) -> Chunk:
    """Encode the indices int32[n] of a chunk: integers in, words and bit fields out."""
    tables, models = load_tables(), _models()
    classes, raw_bits = classes_and_raw_bits(scales.levels(step_exponent))
    order = coding_order(classes)
    counts = np.bincount(classes, minlength=CLASSES)
    raw_bits = raw_bits[order]
    parts = to_symbols(indices[order], raw_bits, np.repeat(tables.radii, counts))
    lengths = np.frexp((parts.excess + 1).astype(np.float64))[1].astype(np.int32)
    runs = []
    if scales.row_exponents.any():
        runs.append((scales.row_exponents + MAX_EXPONENT, models.rows))
    if scales.column_exponents.any():
        runs.append((scales.column_exponents + MAX_EXPONENT, models.columns))
    ends = np.cumsum(counts)
    for end, count, model in zip(ends, counts, models.classes, strict=True):
        runs.append((parts.symbols[end - count : end], model))
    runs.append((lengths - 1, models.escape_lengths))
    mantissa = parts.excess + 1 - (np.int64(1) << (lengths.astype(np.int64) - 1))
    return Chunk(
        tokens=tokens,
        plain=scales.plain,
        base=scales.base,
        row_exponents=bool(scales.row_exponents.any()),
        column_exponents=bool(scales.column_exponents.any()),
        words=encode_runs(runs),
        fields=pack_fields(
            np.concatenate([parts.low, mantissa]), np.concatenate([raw_bits, lengths - 1])
        ),
    )


def decode_indices(
    chunk: Chunk,
    layout: Layout,
    offsets: NDArray[np.int32] | None,
    step_exponent: int,
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Undo `encode_indices`: the indices int64[n] and their classes uint8[n].

    `offsets` int32[columns] are the profile's; None for a plain chunk.

    Raises:
        BitstreamError: the words or the bit fields do not end where they should.
    """
    tables, models = load_tables(), _models()
    decoder = RunDecoder(chunk.words)
    exponents = np.zeros(layout.rows, np.int32)
    if chunk.row_exponents:
        exponents = decoder.take(layout.rows, models.rows) - np.int32(MAX_EXPONENT)
    if offsets is None:
        columns = int(layout.column[-1]) + 1
        offsets = np.zeros(columns, np.int32)
        if chunk.column_exponents:
            offsets = decoder.take(columns, models.columns) - np.int32(MAX_EXPONENT)
    elif chunk.column_exponents:
        raise BitstreamError("column exponents in a chunk that is not plain")
    shift = chunk.base - quarter_octave(step_exponent)
    level = levels(offsets[layout.column], layout.row, exponents, shift)
    classes, raw_bits = classes_and_raw_bits(level)
    order = coding_order(classes)
    counts = np.bincount(classes, minlength=CLASSES)
    runs = zip(counts.tolist(), models.classes, strict=True)
    symbols = np.concatenate([decoder.take(count, model) for count, model in runs])
    radii = np.repeat(tables.radii, counts)
    escaped = int(escapes(symbols, radii).sum())
    lengths = decoder.take(escaped, models.escape_lengths)
    decoder.finish()
    raw_bits = raw_bits[order]
    fields = unpack_fields(chunk.fields, np.concatenate([raw_bits, lengths]))
    excess = fields[len(symbols) :] + (np.int64(1) << lengths.astype(np.int64)) - 1
    indices = np.empty(len(symbols), np.int64)
    indices[order] = from_symbols(
        Symbols(symbols, fields[: len(symbols)], excess), raw_bits, radii
    )
    return indices, classes


class Decoder:
    """Decodes one bitstream that arrives in pieces of any size, yielding tokens as they complete.

    Chunks may arrive in any order after the header. A damaged chunk raises a ChunkError; feeding
    on (also with `b""`) goes on behind it. Any other BitstreamError ends the bitstream.
    """

    def __init__(self, profile: Profile | None = None) -> None:
        self.profile = profile
        self.header: Header | None = None
        self._header_bytes = b""
        self._buffer = bytearray()
        self._done: list[tuple[int, int]] = []

    def feed(self, data: bytes) -> Iterator[Rows]:
        """Take the next bytes; the iterator yields what they complete.

        Raises (while iterating):
            ChunkError: one chunk is damaged, repeated or out of place.
            BitstreamError: the bytes are no bitstream.
            ProfileError: the bitstream was made with another profile.
        """
        self._buffer += data
        return self._drain()

    def finish(self) -> None:
        """Check that the bitstream was complete.

        Raises:
            BitstreamError: tokens are missing, or bytes are left over.
        """
        if self.header is None:
            raise BitstreamError(f"the bitstream ends in its header, after {len(self._buffer)} bytes")
        seen = sum(stop - start for start, stop in self._done)
        if seen < self.header.tokens:
            raise BitstreamError(f"{self.header.tokens - seen} of {self.header.tokens} tokens miss")
        if self._buffer:
            raise BitstreamError(f"{len(self._buffer)} bytes follow the last chunk")

    def _drain(self) -> Iterator[Rows]:
        import torch

        if self.header is None:
            found = read_header(bytes(self._buffer[:64]))
            if found is None:
                return
            header, length = found
            self._check_profile(header)
            self.header, self._header_bytes = header, bytes(self._buffer[:length])
            del self._buffer[:length]
        while self._buffer:
            length_or_none = read_chunk_length(bytes(self._buffer[:16]), self.header)
            if length_or_none is None or length_or_none > len(self._buffer):
                return
            data = bytes(self._buffer[:length_or_none])
            del self._buffer[:length_or_none]
            tokens, values = self._decode_chunk(data, self.header)
            yield Rows(tokens, torch.from_numpy(values))

    def _check_profile(self, header: Header) -> None:
        if header.profile is None:
            return
        if self.profile is None:
            raise ProfileError(f"the bitstream needs the profile {header.profile.hex()}, none is set")
        own = bytes.fromhex(self.profile.digest)[:DIGEST_BYTES]
        if own != header.profile:
            raise ProfileError(
                f"the bitstream needs the profile {header.profile.hex()}, this is {own.hex()}"
            )
        if header.channels != self.profile.channels:
            raise BitstreamError(
                f"the bitstream has {header.channels} channels, its profile {self.profile.channels}"
            )

    def _decode_chunk(self, data: bytes, header: Header) -> tuple[range, NDArray[np.float32]]:
        chunk = read_chunk(data, header, self._header_bytes)
        tokens = chunk.tokens
        name = f"tokens {tokens.start} to {tokens.stop - 1}"
        place = bisect(self._done, (tokens.start, tokens.stop))
        before, after = self._done[max(place - 1, 0) : place], self._done[place : place + 1]
        if any(stop > tokens.start for _, stop in before) or any(
            start < tokens.stop for start, _ in after
        ):
            raise ChunkError(f"{name}: some of them have already arrived")
        try:
            values = self._decode_values(chunk, header)
        except BitstreamError as error:
            raise ChunkError(f"{name}: {error}") from error
        self._done.insert(place, (tokens.start, tokens.stop))
        return tokens, values

    def _decode_values(self, chunk: Chunk, header: Header) -> NDArray[np.float32]:
        geometry = Geometry(header.tokens, header.channels, header.grid)
        transform: Transform = _plain(header.channels)
        offsets = None
        if not chunk.plain:
            if header.profile is None or self.profile is None:
                raise BitstreamError("a chunk needs a profile, the header names none")
            transform, offsets = self.profile.transform, self.profile.offsets
            if isinstance(transform, BlockDct) and header.grid is None:
                raise BitstreamError("a chunk needs a grid, the header has none")
        layout = transform.layout(geometry, chunk.tokens)
        if layout is None:
            raise BitstreamError("the chunk does not start and end with bands of blocks")
        indices, classes = decode_indices(chunk, layout, offsets, header.step_exponent)
        centroids = load_tables().centroids
        with np.errstate(over="ignore", invalid="ignore"):
            coefficients = dequantise(indices, classes, header.step_exponent, centroids)
            values = transform.inverse(coefficients, geometry, chunk.tokens)
        if not np.isfinite(values).all():
            raise BitstreamError("the values are beyond float32")
        return values


def distortion(
    values: NDArray[np.float32], layout: Layout, profile: Profile | None, step_exponent: int
) -> float:
    """Return the MSE that coefficients float32[n] have after quantisation at a step."""
    magnitude = np.abs(values) * np.float32(1.0 / step_size(step_exponent))
    if profile is None:
        scales = _plain_scales(magnitude.reshape(layout.rows, -1), step_exponent)
    else:
        scales = _profile_scales(profile, layout, step_exponent)
    indices, scales, _ = _quantised(values, scales, step_exponent)
    classes, _ = classes_and_raw_bits(scales.levels(step_exponent))
    rebuilt = dequantise(indices, classes, step_exponent, load_tables().centroids)
    return float(np.mean((rebuilt - values) ** 2, dtype=np.float64))


def _quantised(
    values: NDArray[np.float32], scales: Scales, step_exponent: int
) -> tuple[NDArray[np.int32], Scales, int]:
    """Quantise coefficients, and choose the rows' exponents."""
    indices = quantise(values, step_exponent)
    magnitude = np.abs(values) * np.float32(1.0 / step_size(step_exponent))
    layout = scales.layout
    exponents = row_exponents(magnitude, scales.levels(step_exponent), layout.row, layout.rows)
    chosen = Scales(
        scales.plain, scales.base, layout, scales.offsets, scales.column_exponents, exponents
    )
    return indices, chosen, step_exponent


def _profile_scales(profile: Profile, layout: Layout, step_exponent: int) -> Scales:
    rows = np.zeros(layout.rows, np.int32)
    none = np.zeros(0, np.int32)
    return Scales(False, 0, layout, profile.offsets[layout.column], none, rows)


def _plain_scales(magnitude: NDArray[np.float32], step_exponent: int) -> Scales:
    level, exponents = column_levels(magnitude)
    layout = Identity(np.zeros(magnitude.shape[1], np.float32)).layout(
        Geometry(*magnitude.shape), range(len(magnitude))
    )
    assert layout is not None
    base = level + quarter_octave(step_exponent)
    rows = np.zeros(layout.rows, np.int32)
    return Scales(True, base, layout, exponents[layout.column], exponents, rows)


def _rough_bits(magnitude: NDArray[np.float32]) -> float:
    """Count the bits of magnitudes in steps, roughly, on one in four."""
    return float(np.log2(1.0 + magnitude[::4]).sum(dtype=np.float64))


def _search_step_exponent(feature: NDArray[np.float32], own_energy: float, snr_db: float) -> int:
    """Find the j at which plain coding of some of the tokens reaches the SNR."""
    tokens, channels = feature.shape
    some = np.ascontiguousarray(feature[:: max(1, tokens * channels // _SEARCH_FEATURES)])
    layout = _plain(channels).layout(Geometry(len(some), channels), range(len(some)))
    assert layout is not None
    target = own_energy * 10 ** (-snr_db / 10)
    step_exponent = nearest_step_exponent(float(np.sqrt(12.0 * target)))
    for _ in range(6):
        reached = distortion(some.ravel(), layout, None, step_exponent)
        octaves = 0.5 * np.log2(target / max(reached, 1e-300))
        change = round(32 * float(np.clip(octaves, -2.0, 2.0)))
        step_exponent += change
        if change == 0:
            break
    return step_exponent


@functools.lru_cache(maxsize=8)
def _plain(channels: int) -> Identity:
    return Identity(np.zeros(channels, np.float32))


@dataclass(frozen=True, eq=False)
class _Models:
    rows: Model
    columns: Model
    classes: tuple[Model, ...]
    escape_lengths: Model


@functools.cache
def _models() -> _Models:
    tables: Tables = load_tables()
    return _Models(
        rows=make_model(tables.row_exponents),
        columns=make_model(tables.column_exponents),
        classes=tuple(make_model(table) for table in tables.classes),
        escape_lengths=make_model(tables.escape_lengths),
    )
