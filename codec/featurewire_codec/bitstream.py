"""The framing: a header and chunks in, bytes out, and back. BITSTREAM.md is its specification.

Everything a length or a count says is checked against a limit here before anything of that size is
made. Reading is incremental: a reader answers None while its bytes are not all there.
"""

import struct
import sys
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import BitstreamError, ChunkError

MAGIC = b"FW"
VERSION = 1
MAX_TOKENS = 1 << 24
MAX_CHANNELS = 1 << 16
MAX_FEATURES = 1 << 28  # a decoded feature takes at most 1 GiB
MAX_CHUNK_FEATURES = 1 << 22  # decoding one chunk takes at most some 200 MiB
MAX_FEATURE_BYTES = 10  # no coefficient costs more, so a chunk's length is bounded by its shape
MAX_CHUNK_OVERHEAD = 1 << 18  # side information of at most 2^16 columns, and the fixed fields
DIGEST_BYTES = 8
_STEP_EXPONENTS = range(-2560, 2049)
_BASES = range(-2048, 2049)

_PROFILE, _GRID = 1, 2
_PLAIN, _ROWS, _COLUMNS, _WHOLE = 1, 2, 4, 8


@dataclass(frozen=True)
class Header:
    """What a bitstream says once.

    grid: (rows, columns), or None. step_exponent: j of the step 2^(j/32).
    profile: the first 8 bytes of the profile's digest; None for a self-describing bitstream.
    energy: E of the feature, in a self-describing bitstream; else None.
    """

    tokens: int
    channels: int
    step_exponent: int
    grid: tuple[int, int] | None
    profile: bytes | None
    energy: float | None


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some tokens' coefficients, coded on their own.

    plain: coded without the profile, from level `base`. words uint32: the entropy coder's.
    fields: packed raw bits. row_exponents, column_exponents: whether the words begin with them.
    """

    tokens: range
    plain: bool
    base: int
    row_exponents: bool
    column_exponents: bool
    words: NDArray[np.uint32]
    fields: bytes


def write_header(header: Header) -> bytes:
    """Write the header's bytes."""
    flags = _PROFILE * (header.profile is not None) | _GRID * (header.grid is not None)
    parts = [MAGIC, bytes([VERSION, flags]), _varint(header.tokens), _varint(header.channels)]
    parts.append(_varint(_zigzag(header.step_exponent)))
    parts += [_varint(side) for side in header.grid or ()]
    parts.append(struct.pack("<f", header.energy) if header.profile is None else header.profile)
    return b"".join(parts)


def read_header(data: bytes) -> tuple[Header, int] | None:
    """Read a header from the start of `data`: the header and its length, None when cut short.

    Raises:
        BitstreamError: another magic or version, reserved flags, or a shape beyond the limits.
    """
    if data[:2] != MAGIC[: len(data)]:
        raise BitstreamError(f"a bitstream begins with {MAGIC!r}, these bytes with {data[:2]!r}")
    if len(data) > 2 and data[2] != VERSION:
        raise BitstreamError(f"the bitstream has version {data[2]}, this decoder has {VERSION}")
    if len(data) > 3 and data[3] & ~(_PROFILE | _GRID):
        raise BitstreamError(f"the header sets reserved flags: {data[3]:#04x}")
    cursor = _Cursor(data, 3)
    try:
        flags = cursor.byte()
        tokens, channels = cursor.varint(MAX_TOKENS, "tokens"), cursor.varint(MAX_CHANNELS, "width")
        step_exponent = cursor.signed(_STEP_EXPONENTS, "step exponent")
        grid = None
        if flags & _GRID:
            grid = cursor.varint(MAX_TOKENS, "grid rows"), cursor.varint(MAX_TOKENS, "grid columns")
        tail = cursor.take(DIGEST_BYTES if flags & _PROFILE else 4)
    except _CutShort:
        return None
    if not 0 < tokens * channels <= MAX_FEATURES:
        raise BitstreamError(f"the shape {tokens} x {channels} is not within 1 to {MAX_FEATURES}")
    if grid and not 0 < grid[0] * grid[1] <= tokens:
        raise BitstreamError(f"a grid of {grid[0]} x {grid[1]} is not within {tokens} tokens")
    if flags & _PROFILE:
        return Header(tokens, channels, step_exponent, grid, tail, None), cursor.place
    energy: float = struct.unpack("<f", tail)[0]
    if not 0.0 < energy < float("inf"):
        raise BitstreamError(f"the energy {energy} is not above zero and finite")
    return Header(tokens, channels, step_exponent, grid, None, energy), cursor.place


def write_chunk(chunk: Chunk, header: Header, header_bytes: bytes) -> bytes:
    """Write the chunk's bytes: its length, body, and a CRC-32 of the header and these."""
    whole = len(chunk.tokens) == header.tokens
    flags = _PLAIN * chunk.plain | _ROWS * chunk.row_exponents
    flags |= _COLUMNS * chunk.column_exponents | _WHOLE * whole
    parts = [bytes([flags])]
    if not whole:
        parts += [_varint(chunk.tokens.start), _varint(len(chunk.tokens))]
    if chunk.plain:
        parts.append(_varint(_zigzag(chunk.base)))
    words = chunk.words.astype("<u4").tobytes()
    parts += [_varint(len(chunk.words)), words, chunk.fields]
    body = b"".join(parts)
    framed = _varint(len(body)) + body
    return framed + struct.pack("<I", zlib.crc32(framed, zlib.crc32(header_bytes)))


def read_chunk_length(data: bytes, header: Header) -> int | None:
    """Read how many bytes the chunk at the start of `data` takes; None when cut short.

    Raises:
        BitstreamError: more than the feature's shape can need. Nothing after it can be found.
    """
    features = min(header.tokens * header.channels, MAX_CHUNK_FEATURES)
    cursor = _Cursor(data, 0)
    try:
        most = MAX_CHUNK_OVERHEAD + MAX_FEATURE_BYTES * features
        return cursor.varint(most, "bytes in a chunk") + cursor.place + 4
    except _CutShort:
        return None


def read_chunk(data: bytes, header: Header, header_bytes: bytes) -> Chunk:
    """Read one whole chunk, `data` being exactly its bytes.

    Raises:
        ChunkError: the CRC or a field is wrong.
    """
    if zlib.crc32(data[:-4], zlib.crc32(header_bytes)) != int.from_bytes(data[-4:], "little"):
        raise ChunkError("the CRC-32 of a chunk does not match its bytes")
    cursor = _Cursor(data[:-4], 0)
    try:
        cursor.varint(sys.maxsize, "bytes in a chunk")
        flags = cursor.byte()
        if flags & ~(_PLAIN | _ROWS | _COLUMNS | _WHOLE):
            raise ChunkError(f"a chunk sets reserved flags: {flags:#04x}")
        first, count = 0, header.tokens
        if not flags & _WHOLE:
            first = cursor.varint(header.tokens - 1, "first token of a chunk")
            count = cursor.varint(header.tokens - first, "tokens in a chunk")
        if not 0 < count * header.channels <= MAX_CHUNK_FEATURES:
            raise ChunkError(f"a chunk of {count} tokens is not within 1 to {MAX_CHUNK_FEATURES}")
        base = cursor.signed(_BASES, "base level") if flags & _PLAIN else 0
        words = cursor.take(4 * cursor.varint(len(data) // 4, "words in a chunk"))
    except _CutShort:
        raise ChunkError("a chunk ends inside its fields") from None
    except BitstreamError as error:
        raise ChunkError(f"in a chunk {error}") from error
    return Chunk(
        tokens=range(first, first + count),
        plain=bool(flags & _PLAIN),
        base=base,
        row_exponents=bool(flags & _ROWS),
        column_exponents=bool(flags & _COLUMNS),
        words=np.frombuffer(words, "<u4").astype(np.uint32),
        fields=data[cursor.place : -4],
    )


class _CutShort(Exception):
    """The bytes end before the value does."""


class _Cursor:
    """Reads fields one after the other."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data = data
        self.place = place

    def take(self, count: int) -> bytes:
        if self.place + count > len(self.data):
            raise _CutShort
        self.place += count
        return self.data[self.place - count : self.place]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self, most: int, name: str) -> int:
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > most or (byte == 0 and shift):
                    raise BitstreamError(f"the number of {name} is {value}, at most {most} can be")
                return value
        raise BitstreamError(f"the number of {name} is not a variable-length integer")

    def signed(self, allowed: range, name: str) -> int:
        coded = self.varint(2 * len(allowed), name)
        value = (coded >> 1) ^ -(coded & 1)
        if value not in allowed:
            raise BitstreamError(f"the {name} is {value}, beyond {allowed[0]} to {allowed[-1]}")
        return value


def _varint(value: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first, the top bit set on all but the last."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1
