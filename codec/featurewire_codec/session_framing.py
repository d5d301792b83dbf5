"""The framing within a session: what both sides have agreed on is not written again.

Shape, grid, profile and version are known, the transport finds damage and ends messages, and the
entropy coder's check covers all of these. Left are two bytes before a bitstream of one chunk: bits
0-11 are j + 2048, bit 12 midpoint, bit 13 trellis, bits 14-15 the form.
"""

import functools
from dataclasses import replace

from .bitstream import ADAPTIVE, RAW, ROWS_OF_ALL, WHOLE, Header
from .cursor import Cursor, CutShort, varint
from .errors import BitstreamError

LEAD_BYTES = 2
_MIDPOINT, _TRELLIS = 1 << 12, 1 << 13
# One chunk, with these flags or raw bits too; one with its fields; several, each with a length.
BARE, BARE_ROWS, FIELDS, FRAMED = range(4)
# The flags that a form leaves out but for RAW, without and with codewords that adapt.
_FORMS = [{WHOLE | adaptive: BARE, ROWS_OF_ALL | adaptive: BARE_ROWS} for adaptive in (0, ADAPTIVE)]


def header_of_session(header: Header) -> Header:
    """Return the header that both sides derive: E is not sent, so it is 1 where a header has it."""
    return header if header.profile is not None else replace(header, energy=1.0)


def write_lead(header: Header, tokens: range, fields: bytes, body: bytes) -> bytes:
    """Write a chunk as it stands in a session, after the two bytes if it is the first."""
    form = FRAMED
    if len(tokens) == header.tokens:
        said_for_nothing = fields[1:2] == b"\0"  # that there are raw bits
        form = FIELDS if said_for_nothing else _FORMS[header.adaptive].get(fields[0] & ~RAW, FIELDS)
    lead = header.step_exponent + 2048 | form << 14
    lead |= _MIDPOINT * header.midpoint | _TRELLIS * header.trellis
    start = lead.to_bytes(LEAD_BYTES, "little") if tokens.start == 0 else b""
    if form == FRAMED:
        return start + varint(len(fields) + len(body)) + fields + body
    if form != FIELDS:  # a length of 0 says that there are no raw bits
        fields = fields[1:] if fields[0] & RAW else b"\0"
    return start + fields + body


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
        if form == FIELDS:
            return bytes(data), len(data)
        flags = next(flags for flags, own in _FORMS[header.adaptive].items() if own == form)
        has_raw = data[:1] != b"\0"
        return bytes([flags | RAW * has_raw]) + data[not has_raw :], len(data)
    cursor = Cursor(data, 0)
    try:
        body = cursor.take(cursor.varint(most, "bytes in a chunk"))
    except CutShort:
        return None
    return body, cursor.place
