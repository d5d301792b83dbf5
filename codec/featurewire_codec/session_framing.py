"""The framing within a session: what both sides have agreed on is not written again.

Shape, grid, profile and version are known, the transport finds damage and ends messages, and the
entropy coder's check covers all of these. Left are two bytes before a bitstream of one chunk: bits
0-11 are j + 2048, bit 12 midpoint, bit 13 trellis, bits 14-15 the form.
"""

import functools
from dataclasses import replace

from .bitstream import ADAPTIVE, ROWS_OF_ALL, WHOLE, Header
from .cursor import Cursor, CutShort, varint
from .errors import BitstreamError

LEAD_BYTES = 2
_MIDPOINT, _TRELLIS = 1 << 12, 1 << 13
# One chunk, with these flags and no other fields; one with its fields; several, each with a length.
BARE, BARE_ROWS, FIELDS, FRAMED = range(4)
# The fields of a chunk that a form leaves out, without and with codewords that adapt.
_LEFT_OUT = [
    {BARE: bytes([WHOLE | adaptive]), BARE_ROWS: bytes([ROWS_OF_ALL | adaptive])}
    for adaptive in (0, ADAPTIVE)
]


def header_of_session(header: Header) -> Header:
    """Return the header that both sides derive: E is not sent, so it is 1 where a header has it."""
    return header if header.profile is not None else replace(header, energy=1.0)


def write_lead(header: Header, tokens: range, fields: bytes, body: bytes) -> bytes:
    """Write a chunk as it stands in a session, after the two bytes if it is the first."""
    form = FRAMED
    if len(tokens) == header.tokens:
        left_out = _LEFT_OUT[header.adaptive]
        form = BARE if fields == left_out[BARE] else FIELDS
        form = BARE_ROWS if fields == left_out[BARE_ROWS] else form
    lead = header.step_exponent + 2048 | form << 14
    lead |= _MIDPOINT * header.midpoint | _TRELLIS * header.trellis
    start = lead.to_bytes(LEAD_BYTES, "little") if tokens.start == 0 else b""
    if form == FRAMED:
        return start + varint(len(fields) + len(body)) + fields + body
    return start + (fields if form == FIELDS else b"") + body


def read_lead(data: bytes, agreed: Header) -> tuple[Header, int]:
    """Read the first two bytes: the header of this bitstream, and its form.

    `agreed` has the shape, the grid and the profile.
    """
    lead = int.from_bytes(data[:LEAD_BYTES], "little")
    return _header_led(lead, agreed), lead >> 14


def is_framed(data: bytes) -> bool:
    """Whether a bitstream that begins so has chunks with lengths, and can be fed in pieces."""
    return len(data) >= LEAD_BYTES and int.from_bytes(data[:LEAD_BYTES], "little") >> 14 == FRAMED


@functools.lru_cache(maxsize=256)
def _header_led(lead: int, agreed: Header) -> Header:
    """Return the header that two bytes begin; a session has the same few again and again."""
    return replace(
        agreed,
        step_exponent=(lead & 0xFFF) - 2048,
        midpoint=bool(lead & _MIDPOINT),
        trellis=bool(lead & _TRELLIS),
    )


def chunk_body(
    data: bytes | bytearray, form: int, header: Header, most: int
) -> tuple[bytes, int] | None:
    """Take the first chunk's body off `data`: the body, and the bytes taken; None when cut short.

    Of a form of one chunk, `data` is all of it. `most` bounds a body's length.

    Raises:
        BitstreamError: the length is beyond it.
    """
    if form != FRAMED:
        if len(data) > most:
            raise BitstreamError(f"a chunk has {len(data)} bytes, at most {most} can be")
        return _LEFT_OUT[header.adaptive].get(form, b"") + data, len(data)
    cursor = Cursor(data, 0)
    try:
        body = cursor.take(cursor.varint(most, "bytes in a chunk"))
    except CutShort:
        return None
    return body, cursor.place
