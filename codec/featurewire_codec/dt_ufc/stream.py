"""The framing of DT-UFC streams: a header and chunks in, bytes out, and back. All little-endian.

    header  "FD", version u8, flags u8, tokens u32, channels u32, lambda index u8, network digest 4
            flag 1: grid rows u32, columns u32
            flag 2: profile digest 8; else the 256 centres: scale float32, float16[256] of them
    chunk   number of words u32, CRC-32 of the scale indices u32, words u32[...],
            CRC-32 of the header, the chunk's number u32 and all before it u32

Which tokens a chunk holds follows from the header (`plane`). Every size is checked before anything
of that size is made.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import BitstreamError
from .kmeans import CENTRES
from .plane import MAX_WIDTH

MAGIC = b"FD"
VERSION = 1
MAX_FEATURES = 1 << 26
MAX_TOKENS = 1 << 24
MAX_CHANNELS = MAX_WIDTH
DIGEST_BYTES = 8
_GRID, _PROFILE = 1, 2
_FIXED = struct.Struct("<2sBBIIB4s")
_PAIR = struct.Struct("<II")
_TABLE_BYTES = 4 + 2 * CENTRES


@dataclass(frozen=True, eq=False)
class Header:
    """What a stream says once.

    quality: which of the networks, by rising lambda. networks: the first bytes of their digest.
    profile: likewise of the profile's; None when the stream carries its `centres` float32[256].
    """

    tokens: int
    channels: int
    grid: tuple[int, int] | None
    quality: int
    networks: bytes
    profile: bytes | None
    centres: NDArray[np.float32] | None


class Chunk(NamedTuple):
    """One plane's words uint32, and the CRC-32 of its scale indices."""

    words: NDArray[np.uint32]
    checksum: int


def write_header(header: Header) -> bytes:
    """Write the header's bytes."""
    flags = _GRID * (header.grid is not None) | _PROFILE * (header.profile is not None)
    data = _FIXED.pack(
        MAGIC, VERSION, flags, header.tokens, header.channels, header.quality, header.networks
    )
    if header.grid is not None:
        data += _PAIR.pack(*header.grid)
    if header.profile is not None:
        return data + header.profile
    assert header.centres is not None  # a stream has either
    return data + write_centres(header.centres)


def read_header(data: bytes) -> tuple[Header, int]:
    """Read a header from the start of `data`: the header and its length.

    Raises:
        BitstreamError: cut short, another magic or version, reserved flags, a shape beyond the
            limits, or centres that are none.
    """
    if data[:2] != MAGIC:
        raise BitstreamError(f"a DT-UFC stream begins with {MAGIC!r}, this one with {data[:2]!r}")
    if len(data) < _FIXED.size:
        raise BitstreamError(f"the stream ends in its header, after {len(data)} bytes")
    _, version, flags, tokens, channels, quality, networks = _FIXED.unpack_from(data)
    if version != VERSION:
        raise BitstreamError(f"the stream has version {version}, this decoder has {VERSION}")
    if flags & ~(_GRID | _PROFILE):
        raise BitstreamError(f"the header sets reserved flags: {flags:#04x}")
    place, grid = _FIXED.size, None
    length = place + _PAIR.size * bool(flags & _GRID)
    length += DIGEST_BYTES if flags & _PROFILE else _TABLE_BYTES
    if len(data) < length:
        raise BitstreamError(f"the stream ends in its header, after {len(data)} bytes")
    if not (0 < tokens <= MAX_TOKENS and 0 < channels <= MAX_CHANNELS):
        raise BitstreamError(
            f"the shape {tokens} x {channels} is beyond {MAX_TOKENS} x {MAX_CHANNELS}"
        )
    if tokens * channels > MAX_FEATURES:
        raise BitstreamError(f"the shape {tokens} x {channels} has over {MAX_FEATURES} values")
    if flags & _GRID:
        rows, columns = _PAIR.unpack_from(data, place)
        place += _PAIR.size
        if not 0 < rows * columns <= tokens:
            raise BitstreamError(f"a grid of {rows} x {columns} is not within {tokens} tokens")
        grid = rows, columns
    profile, centres = None, None
    if flags & _PROFILE:
        profile = data[place:length]
    else:
        centres = read_centres(data[place:length])
    return Header(tokens, channels, grid, quality, networks, profile, centres), length


def write_centres(centres: NDArray[np.float32]) -> bytes:
    """Write float32[256] as a scale and float16s: 11 bits of each."""
    largest = float(np.abs(centres).max())
    scale = np.float32(largest / 32768) or np.float32(1.0)
    halves = (centres.astype(np.float64) / float(scale)).astype("<f2")
    return struct.pack("<f", scale) + halves.tobytes()


def read_centres(data: bytes) -> NDArray[np.float32]:
    """Read what `write_centres` wrote.

    Raises:
        BitstreamError: they are not finite, or not sorted.
    """
    (scale,) = struct.unpack_from("<f", data)
    halves = np.frombuffer(data, "<f2", CENTRES, 4).astype(np.float64)
    if not (np.isfinite(scale) and np.isfinite(halves).all()):
        raise BitstreamError("the stream's centres are not finite")
    largest = float(np.finfo(np.float32).max)
    centres = np.clip(halves * scale, -largest, largest)
    if (np.diff(centres) < 0).any():
        raise BitstreamError("the stream's centres are not sorted")
    narrow: NDArray[np.float32] = centres.astype(np.float32)
    return narrow


def write_chunk(chunk: Chunk, number: int, header_bytes: bytes) -> bytes:
    """Write the bytes of the chunk of that number, from 0."""
    data = _PAIR.pack(len(chunk.words), chunk.checksum) + chunk.words.astype("<u4").tobytes()
    return data + struct.pack("<I", _seal(data, number, header_bytes))


def read_chunk(
    data: bytes, place: int, number: int, header_bytes: bytes, max_words: int
) -> tuple[Chunk, int]:
    """Read the chunk at a place: the chunk, and the place after it.

    Raises:
        BitstreamError: cut short, too long for its plane, or the CRC does not match.
    """
    if len(data) < place + _PAIR.size:
        raise BitstreamError(f"the stream ends before chunk {number}")
    count, checksum = _PAIR.unpack_from(data, place)
    if count > max_words:
        raise BitstreamError(f"chunk {number} declares {count} words, at most {max_words} can be")
    end = place + _PAIR.size + 4 * count
    if len(data) < end + 4:
        raise BitstreamError(f"the stream ends inside chunk {number}")
    if _seal(data[place:end], number, header_bytes) != int.from_bytes(
        data[end : end + 4], "little"
    ):
        raise BitstreamError(f"the CRC-32 of chunk {number} does not match its bytes")
    words = np.frombuffer(data, "<u4", count, place + _PAIR.size).astype(np.uint32)
    return Chunk(words, checksum), end + 4


def _seal(data: bytes, number: int, header_bytes: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(struct.pack("<I", number), zlib.crc32(header_bytes)))
