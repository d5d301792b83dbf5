"""The codec: features in, bitstreams out, and back.

    feature -> transform -> quantiser -> entropy model -> entropy coder -> bitstream

`encoder` and `decoder` compose the stages; here are the settings that a caller asks for.
"""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .backend import load_backend
from .bitstream import MAX_CHANNELS, MAX_CHUNK_FEATURES, MAX_FEATURES, MAX_TOKENS
from .block_dct import BlockDct
from .decoder import Decoder
from .encoder import Encoder, Framing, Settings
from .errors import BitstreamError, FeatureError, ProfileError
from .feature import Feature, as_array, check_size, energy, pair_of
from .profile import Profile
from .quantiser import EFFORTS, Effort, checked_step_exponent
from .rate_control import bounded_settings, plain_settings, sized_settings
from .span import Coding
from .transform import Floats, Geometry

if TYPE_CHECKING:
    import torch

MIN_SNR_DB, MAX_SNR_DB = -30.0, 120.0
FRAMINGS = ("file", "session")
_MAX_KNOWN = 256  # settings of this profile: a session asks for the same few again and again
Grid = tuple[int, int]


class FeatureCodec:
    """Encodes and decodes features of one profile, or self-describing ones without a profile.

    It holds no state between calls and may be shared by threads.
    """

    def __init__(self, profile: Profile | None = None, framing: Framing = "file") -> None:
        """Without a profile, bitstreams are self-describing: larger, but for any feature.

        With `framing="session"` they leave out what both sides have agreed on (shape, grid and
        profile) and what the transport does (finding damage and ends): some 15 bytes less each.

        Raises:
            FeatureError: another framing.
            ProfileError: what is given is no profile.
        """
        if not isinstance(profile, Profile | None):
            kind = type(profile).__name__
            raise ProfileError(f"a profile is needed, this is a {kind}: see from_pretrained")
        if framing not in FRAMINGS:
            raise FeatureError(f"framing is {framing!r}, {' or '.join(FRAMINGS)} is allowed")
        self.profile = profile
        self.framing: Framing = framing
        self._coding: Coding | None = Coding(profile) if profile else None
        self._known: dict[tuple[float, Effort], Settings] = {}
        load_backend()

    def encode(
        self,
        feature: Feature,
        snr_db: float = 25.0,
        grid: Grid | None = None,
        effort: Effort = "fast",
        *,
        max_error: float | None = None,
        target_bits: int | None = None,
    ) -> bytes:
        """Encode one feature [tokens, channels] of any float type to a bitstream.

        `snr_db` sets the target MSE = E * 10^(-snr_db/10). With a profile E is the calibrated
        domain's, so the SNR holds on average; without one, it is this feature's. With `grid`,
        tokens = prefix + rows * columns.

        The effort "trellis" searches for the cheapest indices: some 5 % fewer bits at the same SNR.
        Without a matrix to multiply by, encoding takes about three times as long and decoding 2.5
        times. A profile of the mode "one-sided" has no trellis: both efforts, where it was
        calibrated with both, code alike.

        `max_error` or `target_bits`, instead: a bound on the error of every value as float32; a
        size that the bitstream never exceeds and comes within 2 % of, unless it is below some
        hundred bytes or the values are few distinct numbers. They encode ten times or more.

        Raises:
            FeatureError: not a finite float feature, or of a shape, grid or quality out of range.
            ProfileError: the profile is for features of another width, or was calibrated without
                this effort.
        """
        chunks = self.encode_chunks(
            feature, snr_db, grid, effort=effort, max_error=max_error, target_bits=target_bits
        )
        return b"".join(chunks)

    def encode_chunks(
        self,
        feature: Feature,
        snr_db: float = 25.0,
        grid: Grid | None = None,
        effort: Effort = "fast",
        *,
        max_error: float | None = None,
        target_bits: int | None = None,
    ) -> Iterator[bytes]:
        """Encode like `encode`, chunk by chunk; the header is at the start of the first."""
        check_size(feature, MAX_FEATURES)
        sizes = {"max_error": max_error, "target_bits": target_bits}
        for name, number in ({"snr_db": snr_db} | sizes).items():
            missing = number is None and name in sizes
            if not (missing or isinstance(number, int | float | np.number)):
                raise FeatureError(f"{name} is {number!r}, which is no number")
        array = as_array(feature)
        geometry = Geometry.of(array, pair_of("grid", grid, FeatureError))
        self._check(geometry, snr_db)
        own_energy = None if self.profile else energy(array)
        if effort not in EFFORTS:
            raise FeatureError(f"effort is {effort!r}, {' or '.join(EFFORTS)} is allowed")
        if self._coding and self._coding.adaptive and (max_error, target_bits) != (None, None):
            raise FeatureError(
                "codewords that adapt learn from every encoding: a session takes an snr_db, no "
                "max_error or target_bits"
            )
        if max_error is not None:
            if effort == "trellis":
                raise FeatureError("max_error is for the effort 'fast': a trellis bounds no error")
            error = functools.partial(self._largest_error, array, geometry)
            settings = bounded_settings(max_error, own_energy, error)
        else:
            settings = self._settings(array, own_energy, snr_db, effort)
        if target_bits is not None:
            if max_error is not None:
                raise FeatureError("target_bits is not asked for beside max_error")
            size = functools.cache(functools.partial(self._size, array, geometry))
            settings = sized_settings(settings, target_bits, size)
        return Encoder(self._coding, geometry, settings, self.framing).chunks(array)

    def decode(
        self,
        data: bytes,
        device: "torch.device | str" = "cpu",
        *,
        shape: tuple[int, int] | None = None,
        grid: Grid | None = None,
    ) -> "torch.Tensor":
        """Decode a whole bitstream to torch.float32[tokens, channels].

        `shape` and `grid` are what both sides of a session have agreed on; a file says its own.

        Raises:
            BitstreamError: bytes are damaged, missing or left over.
            ProfileError: the bitstream was made with another profile.
        """
        import torch

        decoder = self.decoder(shape, grid)
        parts = sorted(decoder.feed(data), key=lambda rows: rows.tokens.start)
        decoder.finish()
        whole = parts[0].values
        if len(parts) > 1:  # by numpy: torch would wait for threads on cores that may be busy
            whole = torch.from_numpy(np.concatenate([rows.values.numpy() for rows in parts]))
        return whole if device == "cpu" else whole.to(device)

    def decoder(self, shape: tuple[int, int] | None = None, grid: Grid | None = None) -> "Decoder":
        """Return a decoder for one bitstream that arrives in pieces.

        Raises:
            BitstreamError: a session's shape or grid is missing or beyond the limits.
        """
        if (self.framing == "session") != (shape is not None):
            raise BitstreamError(
                f"the framing is {self.framing!r} and the shape {shape}: a session's bitstream is "
                "decoded with the shape that was agreed on, a file's without"
            )
        shape, grid = pair_of("shape", shape, BitstreamError), pair_of("grid", grid, BitstreamError)
        return Decoder(self.profile, self._coding, shape, grid)

    def _settings(
        self, array: Floats, own_energy: float | None, snr_db: float, effort: Effort
    ) -> Settings:
        if self.profile is None:
            return plain_settings(array, own_energy or 1.0, snr_db, effort)
        known = self._known.get((snr_db, effort))
        if known is None:
            step_exponent = self.profile.step_exponent(snr_db, effort)
            found = checked_step_exponent(step_exponent, f"an SNR of {snr_db} dB")
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[snr_db, effort] = Settings(found, effort=effort)
        return known

    def _largest_error(self, array: Floats, geometry: Geometry, settings: Settings) -> float:
        """Encode and decode at these settings; infinite when they are too fine for an index."""
        try:
            data = b"".join(Encoder(self._coding, geometry, settings, "file").chunks(array))
        except FeatureError:
            return float("inf")
        parts = [rows.values.numpy() for rows in Decoder(self.profile, self._coding).feed(data)]
        rebuilt = np.concatenate(parts).astype(np.float64)
        return float(np.abs(rebuilt - array).max())

    def _size(self, array: Floats, geometry: Geometry, settings: Settings) -> float:
        """Encode at these settings and return the bits; likewise."""
        try:
            chunks = Encoder(self._coding, geometry, settings, self.framing).chunks(array)
            return 8 * sum(map(len, chunks))
        except FeatureError:
            return float("inf")

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
