"""A feature's tensors as bytes, by the codec's name: array in, bytes out, and back.

"featurewire" is the universal feature codec, with a profile for each tensor or self-describing;
"float16" and "float32" are the elements as they are.
"""

from collections.abc import Iterator, Mapping

import torch
from featurewire_codec import BitstreamError, FeatureCodec, Profile
from featurewire_codec.bitstream import read_header

from featurewire.wire.limits import MAX_CHUNK_BYTES
from featurewire.wire.tensors import from_bytes, to_bytes

_RAW = {"float16": torch.float16, "float32": torch.float32}

# A coded sample can be larger than its features only by headers and escapes: a peer that sends
# more than this for a sample is refused before the rest is kept.
_MAX_BYTES_PER_FEATURE = 8
_MAX_OVERHEAD_BYTES = 4096


def max_coded_bytes(features: int) -> int:
    """Bytes that one coded sample of so many feature points may have."""
    return _MAX_OVERHEAD_BYTES + _MAX_BYTES_PER_FEATURE * features


class Coder:
    """Encodes and decodes the named tensors of one split point.

    Args:
        codec: one of `limits.CODECS`.
        profiles: the profile of each tensor that has one; only "featurewire" uses them.
    """

    def __init__(self, codec: str, profiles: Mapping[str, Profile]) -> None:
        self.codec = codec
        self._profiles = dict(profiles)
        self._codecs: dict[str, FeatureCodec] = {}

    def encode(
        self, name: str, sample: torch.Tensor, grid: tuple[int, int] | None, snr_db: float
    ) -> Iterator[bytes]:
        """One sample `[tokens, channels]` as pieces of at most MAX_CHUNK_BYTES.

        Raises:
            CodecError: the sample cannot be coded (NaN, another width than the profile's).
        """
        if self.codec in _RAW:
            data = to_bytes(sample.to(_RAW[self.codec]))
            yield from _pieces(data)
            return
        for chunk in self._codec(name).encode_chunks(sample, snr_db=snr_db, grid=grid):
            yield from _pieces(chunk)

    def decode(self, name: str, data: bytes, tokens: int, channels: int) -> torch.Tensor:
        """The inverse of `encode`: float32 `[tokens, channels]`.

        Raises:
            CodecError: the bytes are no bitstream of this codec.
            Refusal: raw elements of another number than announced.
        """
        if self.codec in _RAW:
            return from_bytes(data, _RAW[self.codec], (tokens, channels)).float()
        found = read_header(data)
        if found is not None:
            header, _ = found
            if (header.tokens, header.channels) != (tokens, channels):
                raise BitstreamError(
                    f"the bitstream holds {header.tokens} x {header.channels} feature points,"
                    f" {tokens} x {channels} were announced"
                )
        return self._codec(name).decode(data)

    def _codec(self, name: str) -> FeatureCodec:
        if name not in self._codecs:
            self._codecs[name] = FeatureCodec(self._profiles.get(name))
        return self._codecs[name]


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), MAX_CHUNK_BYTES):
        yield data[start : start + MAX_CHUNK_BYTES]
