"""The codec: composes the stages. Features in, bitstreams out, and back.

feature -> transform -> quantiser -> entropy model -> entropy coder -> bitstream
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .backend import load_backend
from .bitstream import (
    DIGEST_BYTES,
    MAX_CHANNELS,
    MAX_CHUNK_FEATURES,
    MAX_FEATURES,
    MAX_TOKENS,
    Header,
    write_chunk,
    write_header,
)
from .block_dct import BlockDct
from .coefficients import Side, encode_symbols
from .decoder import Decoder
from .errors import FeatureError, ProfileError
from .feature import Feature, as_array, energy
from .profile import Profile
from .quantiser import (
    STEPS_PER_OCTAVE,
    checked_step_exponent,
    nearest_step_exponent,
    step_size,
)
from .span import (
    EFFORTS,
    Coding,
    Effort,
    Quantised,
    quantise_plain,
    quantise_values,
    rebuild,
    rounding_for,
)
from .transform import NO_INDEX, Floats, Geometry, Transform, plain_transform

if TYPE_CHECKING:
    import torch

CHUNK_FEATURES = 1 << 18  # about 64 KiB at 2 bits a feature
MIN_SNR_DB, MAX_SNR_DB = -30.0, 120.0
# By a rough count of bits: beyond these, one way to code a chunk is not even tried.
_SURELY_CHEAPER = 1.25
_SEARCH_FEATURES = 1 << 16


class FeatureCodec:
    """Encodes and decodes features of one profile, or self-describing ones without a profile.

    It holds no state between calls and may be shared by threads.
    """

    def __init__(self, profile: Profile | None = None) -> None:
        """Without a profile, bitstreams are self-describing: larger, but for any feature."""
        self.profile = profile
        self._coding = Coding.of(profile) if profile else None
        load_backend()

    def encode(
        self,
        feature: Feature,
        snr_db: float = 25.0,
        grid: tuple[int, int] | None = None,
        effort: Effort = "fast",
    ) -> bytes:
        """Encode one feature [tokens, channels] of any float type to a bitstream.

        `snr_db` sets the target MSE = E * 10^(-snr_db/10). With a profile E is the calibrated
        domain's, so the SNR holds on average; without one, it is this feature's. With `grid`,
        tokens = prefix + rows * columns. The effort "trellis" takes several times as long and some
        5 % fewer bits.

        Raises:
            FeatureError: not a finite float feature, or of a shape, grid or SNR out of range.
            ProfileError: the profile is for features of another width, or knows no such effort.
        """
        return b"".join(self.encode_chunks(feature, snr_db, grid, effort))

    def encode_chunks(
        self,
        feature: Feature,
        snr_db: float = 25.0,
        grid: tuple[int, int] | None = None,
        effort: Effort = "fast",
    ) -> Iterator[bytes]:
        """Encode like `encode`, chunk by chunk; the header is at the start of the first."""
        array = as_array(feature)
        geometry = Geometry.of(array, grid)
        self._check(geometry, snr_db)
        if effort not in EFFORTS:
            raise FeatureError(f"the effort is {effort!r}, not one of {', '.join(EFFORTS)}")
        own_energy = energy(array) if self.profile is None else None
        if self.profile is not None:
            step_exponent = self.profile.step_exponent(snr_db, effort)
        else:
            step_exponent = _search_step_exponent(array, own_energy or 1.0, snr_db, effort)
        step_exponent = checked_step_exponent(step_exponent, f"an SNR of {snr_db} dB")
        digest = bytes.fromhex(self.profile.digest)[:DIGEST_BYTES] if self.profile else None
        tokens, channels = geometry.tokens, geometry.channels
        trellis = effort == "trellis"
        header = Header(tokens, channels, step_exponent, grid, digest, own_energy, trellis)
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
        whole = parts[0].values if len(parts) == 1 else torch.cat([rows.values for rows in parts])
        return whole.to(device)

    def decoder(self) -> "Decoder":
        """Return a decoder for one bitstream that arrives in pieces."""
        return Decoder(self.profile, self._coding)

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
                part = array[span.start : span.stop]
                chunk = self._encode_span(part, geometry, span, header, header_bytes)
            yield lead + chunk
            lead = b""

    def _encode_span(
        self, feature: Floats, geometry: Geometry, span: range, header: Header, header_bytes: bytes
    ) -> bytes:
        """Code a span the cheaper way: with the profile's transform, or plain."""
        chunks = []
        rough = load_backend().panels.rough_bits
        rounding = rounding_for("trellis" if header.trellis else "fast")
        scale, plain_first = 1.0 / step_size(header.step_exponent), True
        if self._coding is not None:
            transform = self._coding.profile.transform
            index = transform.search(feature)
            values = transform.forward(feature, geometry, span, index)
            own = sum(rough(part.ravel(), scale) for part in values)
            plain = rough(feature.ravel(), scale)
            plain_first = plain < _SURELY_CHEAPER * own
            if own < _SURELY_CHEAPER * plain:
                layout = transform.layout(geometry, span, index)
                assert layout is not None  # the span is one of the transform's own
                side = Side(False, 0, index, NO_INDEX, NO_INDEX)
                coded = quantise_values(
                    values, layout, self._coding.offsets, side, header.step_exponent, rounding
                )
                chunks.append(self._write(span, coded, header, header_bytes))
        if plain_first:
            coded = quantise_plain(feature, header.step_exponent, rounding)
            chunks.append(self._write(span, coded, header, header_bytes))
        return min(chunks, key=len)

    def _write(self, span: range, coded: Quantised, header: Header, header_bytes: bytes) -> bytes:
        table = self._coding.index_table if self._coding and not coded.side.plain else None
        chunk, fields = encode_symbols(span, coded.symbols, coded.side, table, header, header_bytes)
        return write_chunk(chunk, fields, header_bytes)


def plain_distortion(feature: Floats, step_exponent: int, effort: Effort = "fast") -> float:
    """Return the MSE of a feature [tokens, channels] that is coded plainly at a step."""
    coded = quantise_plain(feature, step_exponent, rounding_for(effort))
    rebuilt = rebuild(coded.symbols, coded.panels, step_exponent)[0]
    return float(np.mean((rebuilt - feature) ** 2, dtype=np.float64))


def _search_step_exponent(
    feature: Floats, own_energy: float, snr_db: float, effort: Effort
) -> int:
    """Find the j at which plain coding of some of the tokens reaches the SNR."""
    tokens, channels = feature.shape
    some = np.ascontiguousarray(feature[:: max(1, tokens * channels // _SEARCH_FEATURES)])
    target, asked = own_energy * 10 ** (-snr_db / 10), f"an SNR of {snr_db} dB"
    step_exponent = nearest_step_exponent(math.sqrt(12.0 * target))
    for _ in range(6):
        reached = plain_distortion(some, checked_step_exponent(step_exponent, asked), effort)
        octaves = 0.5 * np.log2(target / max(reached, 1e-300))
        change = round(STEPS_PER_OCTAVE * float(np.clip(octaves, -2.0, 2.0)))
        step_exponent += change
        if change == 0:
            break
    return step_exponent
