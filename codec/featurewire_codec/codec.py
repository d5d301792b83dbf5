"""The codec: composes the stages. Features in, bitstreams out, and back.

    feature -> transform -> quantiser -> entropy model -> entropy coder -> bitstream

Arrays up to the entropy coder (`coefficients` has its half), whose words the bitstream frames.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

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
    write_chunk,
    write_header,
)
from .block_dct import BlockDct
from .coefficients import Scales, encode_indices
from .decoder import Decoder
from .entropy_model import classes_and_raw_bits, quarter_octave
from .errors import FeatureError, ProfileError
from .exponents import column_levels, row_exponents
from .feature import Feature, as_array, energy
from .profile import Profile
from .quantiser import (
    MAX_STEP_EXPONENT,
    MIN_STEP_EXPONENT,
    STEPS_PER_OCTAVE,
    dequantise,
    nearest_step_exponent,
    quantise,
    step_size,
)
from .tables import load_tables
from .transform import Geometry, Layout, Transform, plain_transform

if TYPE_CHECKING:
    import torch

CHUNK_FEATURES = 1 << 18  # about 64 KiB at 2 bits a feature
MIN_SNR_DB, MAX_SNR_DB = -30.0, 120.0
# The fall-back to plain coding must be this much cheaper by a rough count of bits.
_PLAIN_ADVANTAGE = 0.97
_SEARCH_FEATURES = 1 << 16


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
        geometry = Geometry.of(array, grid)
        self._check(geometry, snr_db)
        own_energy = energy(array) if self.profile is None else None
        if self.profile is not None:
            step_exponent = _checked_step_exponent(self.profile.step_exponent(snr_db), snr_db)
        else:
            step_exponent = _search_step_exponent(array, own_energy or 1.0, snr_db)
        digest = bytes.fromhex(self.profile.digest)[:DIGEST_BYTES] if self.profile else None
        tokens, channels = geometry.tokens, geometry.channels
        header = Header(tokens, channels, step_exponent, grid, digest, own_energy)
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
                raise FeatureError(
                    "the profile transforms blocks of a grid: give grid=(rows, cols)"
                )
            band = geometry.prefix + self.profile.transform.block * grid[1]
            if band * channels > MAX_CHUNK_FEATURES:
                raise FeatureError(f"one band of the grid has over {MAX_CHUNK_FEATURES} values")

    def _chunks(
        self, array: NDArray[np.float32], geometry: Geometry, header: Header
    ) -> Iterator[bytes]:
        lead = header_bytes = write_header(header)
        transform: Transform = plain_transform(geometry.channels)
        if self.profile is not None:
            transform = self.profile.transform
        for span in transform.spans(geometry, CHUNK_FEATURES):
            # The quantiser refuses what an overflow leaves.
            with np.errstate(over="ignore", invalid="ignore"):
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
                return _encode_values(span, values, scales, header.step_exponent)
        scales = _plain_scales(plain_magnitude, header.step_exponent)
        return _encode_values(span, feature.ravel(), scales, header.step_exponent)


def distortion(
    values: NDArray[np.float32], layout: Layout, profile: Profile | None, step_exponent: int
) -> float:
    """Return the MSE that coefficients float32[n] have after quantisation at a step."""
    magnitude = np.abs(values) * np.float32(1.0 / step_size(step_exponent))
    if profile is None:
        scales = _plain_scales(magnitude.reshape(layout.rows, -1), step_exponent)
    else:
        scales = _profile_scales(profile, layout, step_exponent)
    indices, scales = _quantised(values, scales, step_exponent)
    classes, _ = classes_and_raw_bits(scales.levels(step_exponent))
    rebuilt = dequantise(indices, classes, step_exponent, load_tables().centroids)
    return float(np.mean((rebuilt - values) ** 2, dtype=np.float64))


def _encode_values(
    span: range, values: NDArray[np.float32], scales: Scales, step_exponent: int
) -> Chunk:
    indices, scales = _quantised(values, scales, step_exponent)
    return encode_indices(span, indices, scales, step_exponent)


def _quantised(
    values: NDArray[np.float32], scales: Scales, step_exponent: int
) -> tuple[NDArray[np.int32], Scales]:
    """Quantise coefficients, and choose the rows' exponents."""
    indices = quantise(values, step_exponent)
    magnitude = np.abs(values) * np.float32(1.0 / step_size(step_exponent))
    layout = scales.layout
    exponents = row_exponents(magnitude, scales.levels(step_exponent), layout.row, layout.rows)
    return indices, replace(scales, row_exponents=exponents)


def _profile_scales(profile: Profile, layout: Layout, step_exponent: int) -> Scales:
    rows = np.zeros(layout.rows, np.int32)
    none = np.zeros(0, np.int32)
    return Scales(False, 0, layout, profile.offsets[layout.column], none, rows)


def _plain_scales(magnitude: NDArray[np.float32], step_exponent: int) -> Scales:
    level, exponents = column_levels(magnitude)
    transform = plain_transform(magnitude.shape[1])
    layout = transform.layout(Geometry.of(magnitude), range(len(magnitude)))
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
    layout = plain_transform(channels).layout(Geometry.of(some), range(len(some)))
    target = own_energy * 10 ** (-snr_db / 10)
    wanted = nearest_step_exponent(math.sqrt(12.0 * target))
    step_exponent = _checked_step_exponent(wanted, snr_db)
    for _ in range(6):
        reached = distortion(some.ravel(), layout, None, step_exponent)
        octaves = 0.5 * np.log2(target / max(reached, 1e-300))
        change = round(STEPS_PER_OCTAVE * float(np.clip(octaves, -2.0, 2.0)))
        step_exponent = _checked_step_exponent(step_exponent + change, snr_db)
        if change == 0:
            break
    return step_exponent


def _checked_step_exponent(step_exponent: int, snr_db: float) -> int:
    if not MIN_STEP_EXPONENT <= step_exponent <= MAX_STEP_EXPONENT:
        raise FeatureError(
            f"an SNR of {snr_db} dB needs a step of 2^{step_exponent / STEPS_PER_OCTAVE:.0f}, "
            "beyond 2^-80 to 2^64: scale the feature"
        )
    return step_exponent
