"""The framing within a session: what both sides have agreed on is not written again.

Shape, grid, profile and version are known, the transport finds damage and ends messages, and the
entropy coder's check covers all of these. Left are two bytes before a bitstream of one chunk: bits
0-11 are j + 2048, bit 12 midpoint, bit 13 trellis, bits 14-15 the form.
"""

from .bitstream import ADAPTIVE, ROWS_OF_ALL, WHOLE, Header
from .cursor import Cursor, CutShort, varint
from .errors import BitstreamError

LEAD_BYTES = 2
_MIDPOINT, _TRELLIS = 1 << 12, 1 << 13
# One chunk, with these flags and no other fields; one with its fields; several, each with a length.
BARE, BARE_ROWS, FIELDS, FRAMED = range(4)
_FLAGS = {BARE: WHOLE, BARE_ROWS: ROWS_OF_ALL}


def header_of_session(header: Header) -> Header:
    """Return the header that both sides derive: E is not sent, so it is 1 where a header has it."""
    return header if header.profile is not None else header._replace(energy=1.0)


def write_lead(header: Header, tokens: range, fields: bytes, body: bytes) -> bytes:
    """Write a chunk as it stands in a session, after the two bytes if it is the first."""
    whole = len(tokens) == header.tokens
    form = FRAMED
    if whole:
        form = next((form for form in _FLAGS if _flags(form, header) == fields), FIELDS)
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
    header = agreed._replace(
        step_exponent=(lead & 0xFFF) - 2048,
        midpoint=bool(lead & _MIDPOINT),
        trellis=bool(lead & _TRELLIS),
    )
    return header, lead >> 14


def _flags(form: int, header: Header) -> bytes:
    """Return the fields of a chunk that a form leaves out."""
    return bytes([_FLAGS[form] | ADAPTIVE * header.adaptive]) if form in _FLAGS else b""


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
        return _flags(form, header) + bytes(data), len(data)
    cursor = Cursor(data, 0)
    try:
        body = cursor.take(cursor.varint(most, "bytes in a chunk"))
    except CutShort:
        return None
    return body, cursor.place
