"""The DT-UFC method behind the interface of `FeatureCodec`: for comparison, side by side.

    feature -> centres' indices -> plane -> network -> entropy coder -> stream

Its probabilities come from float networks, so a stream is decoded on a machine like the one that
made it; a difference in them is found and raises a BitstreamError, it never decodes to noise.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import BitstreamError, FeatureError, ProfileError
from ..feature import Feature, as_array, check_size
from .kmeans import Form, fit_centres, to_indices, to_values
from .plane import Plane
from .profile import DtUfcProfile
from .stream import (
    DIGEST_BYTES,
    MAX_CHANNELS,
    MAX_FEATURES,
    MAX_TOKENS,
    Chunk,
    Header,
    read_centres,
    read_chunk,
    read_header,
    write_centres,
    write_chunk,
    write_header,
)
from .weights import FOLDER, Networks, load_networks

if TYPE_CHECKING:
    import torch

MIN_SNR_DB, MAX_SNR_DB = -30.0, 120.0


class DtUfcCodec:
    """Encodes and decodes features of one profile, or self-describing ones without a profile.

    It holds no state between calls and may be shared by threads. Networks run on the CPU.
    """

    def __init__(
        self,
        profile: DtUfcProfile | None = None,
        form: Form = "nearest",
        networks: Path | None = None,
    ) -> None:
        """Without a profile, every stream carries centres of its own: 516 bytes more.

        form: how values become indices, "published" as in the paper's code, which floors, or
        "nearest" with a quarter of that error. Decoding is the same. networks: a folder of weights
        files, by default the shipped ones, trained on a mix of models.

        Raises:
            FeatureError: there is no such form.
            ProfileError: the weights cannot be read, or are not those of the profile.
        """
        if form not in get_args(Form):
            raise FeatureError(f"form is {form!r}, it can be {' or '.join(get_args(Form))}")
        self.profile = profile
        self.form: Form = form
        self._networks: Networks = load_networks(networks or FOLDER)
        own = self._networks.digest.hex()
        if profile is not None and profile.networks != own:
            raise ProfileError(
                f"the profile is for the networks {profile.networks}, these are {own}"
            )
        count = len(self._networks.coders)
        if profile is not None and len(profile.snrs_db) != count:
            raise ProfileError(f"the profile has {len(profile.snrs_db)} SNRs for {count} networks")

    def encode(
        self, feature: Feature, snr_db: float = 25.0, grid: tuple[int, int] | None = None
    ) -> bytes:
        """Encode one feature [tokens, channels] of any float type to a stream.

        `snr_db` picks the cheapest network that reaches it, or the best there is: 2 to 11 dB is
        what was measured. With a profile that was measured in calibration, without one on
        this feature. `grid` is used where all tokens lie on it and the channels are at most 64.

        Raises:
            FeatureError: not a finite float feature, or of a shape, grid or SNR out of range.
            ProfileError: the profile is for features of another width.
        """
        return b"".join(self.encode_chunks(feature, snr_db, grid))

    def encode_chunks(
        self, feature: Feature, snr_db: float = 25.0, grid: tuple[int, int] | None = None
    ) -> Iterator[bytes]:
        """Encode like `encode`, chunk by chunk; the header is at the start of the first."""
        check_size(feature, MAX_FEATURES)
        array = as_array(feature)
        self._check(array, snr_db, grid)
        return self._chunks(array, snr_db, grid)

    def decode(self, data: bytes, device: "torch.device | str" = "cpu") -> "torch.Tensor":
        """Decode a whole stream to torch.float32[tokens, channels].

        Raises:
            BitstreamError: bytes are damaged, missing or left over, or come from a machine whose
                arithmetic differs.
            ProfileError: the stream was made with another profile or other networks.
        """
        import torch

        header, place = read_header(data)
        centres = self._centres_of(header)
        coder = self._networks.coders[header.quality]
        header_bytes, parts = data[:place], []
        plane = Plane.of(header.tokens, header.channels, header.grid)
        for number, (_, part) in enumerate(plane.chunks()):
            most = coder.max_words(part.padded)
            chunk, place = read_chunk(data, place, number, header_bytes, most)
            picture = coder.decode(chunk.words, chunk.checksum, part.padded)
            parts.append(to_values(part.unpack(picture), centres))
        if place != len(data):
            raise BitstreamError(f"{len(data) - place} bytes follow the last chunk")
        return torch.from_numpy(np.concatenate(parts)).to(device)

    def _chunks(
        self, array: NDArray[np.float32], snr_db: float, grid: tuple[int, int] | None
    ) -> Iterator[bytes]:
        from .quality import choose, snrs_of

        digest = own = None
        if self.profile is not None:
            digest = bytes.fromhex(self.profile.digest)[:DIGEST_BYTES]
            centres = self.profile.centres
            quality = choose(self.profile.snrs_db, snr_db)
        else:
            own = centres = read_centres(write_centres(fit_centres(array)))  # as the decoder's
            reached = snrs_of(array, grid, centres, self.form, self._networks)
            quality = choose(reached, snr_db)
        tokens, channels = array.shape
        header = Header(tokens, channels, grid, quality, self._networks.digest, digest, own)
        lead = header_bytes = write_header(header)
        coder = self._networks.coders[quality]
        for number, (span, plane) in enumerate(Plane.of_array(array, grid).chunks()):
            indices = to_indices(array[span.start : span.stop], centres, self.form)
            chunk = Chunk(*coder.encode(plane.pack(indices)))
            yield lead + write_chunk(chunk, number, header_bytes)
            lead = b""

    def _check(
        self, array: NDArray[np.float32], snr_db: float, grid: tuple[int, int] | None
    ) -> None:
        tokens, channels = array.shape
        if not MIN_SNR_DB <= snr_db <= MAX_SNR_DB:
            raise FeatureError(f"snr_db is {snr_db}, {MIN_SNR_DB:g} to {MAX_SNR_DB:g} is allowed")
        if tokens > MAX_TOKENS or channels > MAX_CHANNELS or tokens * channels > MAX_FEATURES:
            raise FeatureError(
                f"a feature of {tokens} x {channels} is beyond {MAX_TOKENS} tokens, "
                f"{MAX_CHANNELS} channels or {MAX_FEATURES} values"
            )
        if grid and not (min(grid) > 0 and grid[0] * grid[1] <= tokens):
            raise FeatureError(f"a grid of {grid[0]} x {grid[1]} is not within {tokens} tokens")
        if self.profile is not None and channels != self.profile.channels:
            raise ProfileError(
                f"the feature has {channels} channels, the profile is for {self.profile.channels}"
            )

    def _centres_of(self, header: Header) -> NDArray[np.float32]:
        if header.networks != self._networks.digest:
            raise ProfileError(
                f"the stream needs the networks {header.networks.hex()}, "
                f"these are {self._networks.digest.hex()}"
            )
        if header.quality >= len(self._networks.coders):
            raise BitstreamError(f"the stream needs network {header.quality}, there is none")
        if header.centres is not None:
            return header.centres
        assert header.profile is not None  # a header has either
        if self.profile is None:
            raise ProfileError(f"the stream needs the profile {header.profile.hex()}, none is set")
        own = bytes.fromhex(self.profile.digest)[:DIGEST_BYTES]
        if own != header.profile:
            raise ProfileError(
                f"the stream needs the profile {header.profile.hex()}, this is {own.hex()}"
            )
        if header.channels != self.profile.channels:
            raise BitstreamError(
                f"the stream has {header.channels} channels, its profile {self.profile.channels}"
            )
        return self.profile.centres
