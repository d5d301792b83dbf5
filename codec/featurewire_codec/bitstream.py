"""The framing: a header and chunks in, bytes out, and back. BITSTREAM.md is its specification.

Everything a length or a count says is checked against a limit here before anything of that size is
made. Reading is incremental: a reader answers None while its bytes are not all there.
"""

import functools
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cursor import Cursor, CutShort, signed_varint, varint
from .errors import BitstreamError, ChunkError

MAGIC = b"FW"
VERSION = 5
MAX_TOKENS = 1 << 24
MAX_CHANNELS = 1 << 16
MAX_FEATURES = 1 << 28  # a decoded feature takes at most 1 GiB
MAX_CHUNK_FEATURES = 1 << 22  # decoding one chunk takes at most some 200 MiB
MAX_FEATURE_BYTES = 10  # no coefficient costs more, so a chunk's length is bounded by its shape
MAX_CHUNK_OVERHEAD = 1 << 18  # side information of at most 2^16 columns, and the fixed fields
DIGEST_BYTES = 8
TWO_LANES_FROM, FOUR_LANES_FROM = 1 << 11, 1 << 14  # coefficients in a chunk
CHECK_MASK = (1 << 24) - 1
STEP_EXPONENTS = range(-2048, 2048)
_WORD = np.dtype("<u4")
_BASES = range(-2048, 2049)

_PROFILE, _GRID, _TRELLIS, _MIDPOINT = 1, 2, 4, 8
_PLAIN, _ROWS, _COLUMNS, WHOLE, RAW, ADAPTIVE, _RESET = 1, 2, 4, 8, 16, 32, 64
ROWS_OF_ALL = WHOLE | _ROWS


@dataclass(frozen=True)
class Header:
    """What a bitstream says once.

    grid: (rows, columns), or None. step_exponent: j of the step 2^(j/32).
    profile: the first 8 bytes of the profile's digest; None for a self-describing bitstream.
    energy: E of the feature, in a self-describing bitstream; else None.
    trellis: the indices are those of a trellis. midpoint: values are rebuilt without centroids.
    adaptive: a session's codewords adapt; both sides know, and no header says so.
    """

    tokens: int
    channels: int
    step_exponent: int
    grid: tuple[int, int] | None
    profile: bytes | None
    energy: float | None
    trellis: bool = False
    midpoint: bool = False
    adaptive: bool = False


class Fields(NamedTuple):
    """What a chunk says of itself before its coded symbols.

    plain: coded without the profile, from level `base`. row_exponents, column_exponents: whether
    the symbols begin with them. raw: packed raw bits. adaptive: the codewords are those that the
    session has made, after a reset to the profile's own if `reset`.
    """

    tokens: range
    plain: bool
    base: int
    row_exponents: bool
    column_exponents: bool
    raw: bytes
    adaptive: bool = False
    reset: bool = False


class Chunk(NamedTuple):
    """Some tokens' coefficients, coded on their own: uint32 words of each lane."""

    fields: Fields
    words: Sequence[NDArray[np.uint32]]


def lanes_of(coefficients: int) -> int:
    """Return the number of lanes that a chunk of so many coefficients has."""
    return 1 + (coefficients >= TWO_LANES_FROM) + 2 * (coefficients >= FOUR_LANES_FROM)


@functools.lru_cache(maxsize=256)
def write_header(header: Header) -> bytes:
    """Write the header's bytes."""
    flags = _PROFILE * (header.profile is not None) | _GRID * (header.grid is not None)
    flags |= _TRELLIS * header.trellis | _MIDPOINT * header.midpoint
    parts = [MAGIC, bytes([VERSION, flags]), varint(header.tokens), varint(header.channels)]
    parts.append(signed_varint(header.step_exponent))
    parts += [varint(side) for side in header.grid or ()]
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
    if len(data) > 3 and data[3] & ~(_PROFILE | _GRID | _TRELLIS | _MIDPOINT):
        raise BitstreamError(f"the header sets reserved flags: {data[3]:#04x}")
    cursor = Cursor(data, 3)
    try:
        flags = cursor.byte()
        tokens = cursor.varint(MAX_TOKENS, "tokens")
        channels = cursor.varint(MAX_CHANNELS, "channels")
        step_exponent = cursor.signed(STEP_EXPONENTS, "step exponent")
        grid = None
        if flags & _GRID:
            grid = cursor.varint(MAX_TOKENS, "grid rows"), cursor.varint(MAX_TOKENS, "grid columns")
        tail = cursor.take(DIGEST_BYTES if flags & _PROFILE else 4)
    except CutShort:
        return None
    check_shape(tokens, channels, grid)
    modes = bool(flags & _TRELLIS), bool(flags & _MIDPOINT)
    if flags & _PROFILE:
        return Header(tokens, channels, step_exponent, grid, tail, None, *modes), cursor.place
    energy: float = struct.unpack("<f", tail)[0]
    if not 0.0 < energy < float("inf"):
        raise BitstreamError(f"the energy {energy} is not above zero and finite")
    return Header(tokens, channels, step_exponent, grid, None, energy, *modes), cursor.place


def check_shape(tokens: int, channels: int, grid: tuple[int, int] | None) -> None:
    """Check a declared shape against the limits.

    Raises:
        BitstreamError: it is beyond them.
    """
    if not (0 < tokens <= MAX_TOKENS and 0 < channels <= MAX_CHANNELS):
        raise BitstreamError(f"the shape {tokens} x {channels} is not one that is coded")
    if tokens * channels > MAX_FEATURES:
        raise BitstreamError(f"the shape {tokens} x {channels} is not within 1 to {MAX_FEATURES}")
    if grid and not 0 < grid[0] * grid[1] <= tokens:
        raise BitstreamError(f"a grid of {grid[0]} x {grid[1]} is not within {tokens} tokens")


def write_fields(fields: Fields, header: Header) -> bytes:
    """Write what stands before a chunk's words."""
    whole = len(fields.tokens) == header.tokens
    flags = _PLAIN * fields.plain | _ROWS * fields.row_exponents | RAW * bool(fields.raw)
    flags |= _COLUMNS * fields.column_exponents | WHOLE * whole
    flags |= ADAPTIVE * fields.adaptive | _RESET * fields.reset
    parts = [bytes([flags])]
    if not whole:
        parts += [varint(fields.tokens.start), varint(len(fields.tokens))]
    if fields.plain:
        parts.append(signed_varint(fields.base))
    if fields.raw:
        parts += [varint(len(fields.raw)), fields.raw]
    return b"".join(parts)


def check_of(fields: bytes, header_bytes: bytes, updates: int = 0) -> int:
    """Return the 24 bits that the entropy coder starts from.

    `updates` is how often the session's codewords have been updated since the last reset; it is
    not sent, and so a chunk that is lost or out of order is noticed.
    """
    check = zlib.crc32(fields, zlib.crc32(header_bytes))
    if updates:
        check = zlib.crc32(struct.pack("<Q", updates), check)
    return check & CHECK_MASK


def write_body(chunk: Chunk) -> bytes:
    """Write what follows a chunk's fields: the words of its lanes."""
    lanes = [words.astype(_WORD, copy=False).tobytes().rstrip(b"\0") for words in chunk.words]
    share = sum(map(len, lanes)) // len(lanes)
    return b"".join([*(signed_varint(len(lane) - share) for lane in lanes[:-1]), *lanes])


def frame_chunk(body: bytes, header_bytes: bytes) -> bytes:
    """Write a chunk, fields and all, with its length and a CRC-32 of the header and these."""
    framed = varint(len(body)) + body
    return framed + struct.pack("<I", zlib.crc32(framed, zlib.crc32(header_bytes)))


def max_body_bytes(header: Header) -> int:
    """Return how long a chunk of a feature of this shape can be."""
    features = min(header.tokens * header.channels, MAX_CHUNK_FEATURES)
    return MAX_CHUNK_OVERHEAD + MAX_FEATURE_BYTES * features


def read_chunk_length(data: bytes, header: Header) -> int | None:
    """Read how many bytes the chunk at the start of `data` takes; None when cut short.

    Raises:
        BitstreamError: more than the feature's shape can need. Nothing after it can be found.
    """
    cursor = Cursor(data, 0)
    try:
        return cursor.varint(max_body_bytes(header), "bytes in a chunk") + cursor.place + 4
    except CutShort:
        return None


def unframe_chunk(data: bytes, header_bytes: bytes) -> bytes:
    """Take the body out of one whole chunk, `data` being exactly its bytes.

    Raises:
        ChunkError: the CRC is wrong.
    """
    if zlib.crc32(data[:-4], zlib.crc32(header_bytes)) != int.from_bytes(data[-4:], "little"):
        raise ChunkError("the CRC-32 of a chunk does not match its bytes")
    cursor = Cursor(data, 0)
    cursor.varint(len(data), "bytes in a chunk")
    return data[cursor.place : -4]


def read_body(body: bytes, header: Header) -> tuple[Chunk, bytes]:
    """Read a chunk's body: the chunk, and its fields as they are written.

    Raises:
        ChunkError: a field is wrong.
    """
    cursor = Cursor(body, 0)
    try:
        flags = cursor.byte()
        if (
            flags & 128
            or (flags & _PLAIN and flags & ADAPTIVE)
            or (flags & _RESET and not flags & ADAPTIVE)
        ):
            raise ChunkError(f"a chunk sets flags that none has: {flags:#04x}")
        first, count = 0, header.tokens
        if not flags & WHOLE:
            first = cursor.varint(header.tokens - 1, "first token of a chunk")
            count = cursor.varint(header.tokens - first, "tokens in a chunk")
        if not 0 < count * header.channels <= MAX_CHUNK_FEATURES:
            raise ChunkError(f"a chunk of {count} tokens is not within 1 to {MAX_CHUNK_FEATURES}")
        base = cursor.signed(_BASES, "base level") if flags & _PLAIN else 0
        raw = cursor.take(cursor.varint(len(body), "raw bytes") if flags & RAW else 0)
        fields_end = cursor.place
        lanes = lanes_of(count * header.channels)
        bounds = range(-len(body), len(body) + 1)
        beyond = [
            cursor.signed(bounds, "bytes of a lane beyond an even share") for _ in range(lanes - 1)
        ]
        share = (len(body) - cursor.place) // lanes
        words = [_words(cursor.take(max(share + more, 0))) for more in beyond]
        words.append(_words(cursor.take(len(body) - cursor.place)))
    except CutShort:
        raise ChunkError("a chunk ends inside its fields") from None
    except ChunkError:
        raise
    except BitstreamError as error:
        raise ChunkError(f"in a chunk {error}") from error
    fields = Fields(
        tokens=range(first, first + count),
        plain=bool(flags & _PLAIN),
        base=base,
        row_exponents=bool(flags & _ROWS),
        column_exponents=bool(flags & _COLUMNS),
        raw=raw,
        adaptive=bool(flags & ADAPTIVE),
        reset=bool(flags & _RESET),
    )
    return Chunk(fields, words), body[:fields_end]


def _words(lane: bytes) -> NDArray[np.uint32]:
    """Read a lane, whose last word has lost its leading zero bytes."""
    if not lane or lane[-1] == 0:
        raise ChunkError("a lane of a chunk is empty or ends in a zero byte")
    words = np.frombuffer(lane + bytes(-len(lane) % 4), _WORD)
    return words.astype(np.uint32, copy=False)
