"""What a bitstream says of itself: bytes in, header fields and the table of chunks out."""

from dataclasses import dataclass

from .bitstream import Header, read_body, read_chunk_length, read_header, unframe_chunk
from .errors import BitstreamError


@dataclass(frozen=True)
class ChunkInfo:
    """One chunk: its tokens, its bytes with framing, and whether it is coded without profile."""

    tokens: range
    bytes: int
    plain: bool


@dataclass(frozen=True)
class Inspection:
    """The header and chunks of a bitstream, and its size in bytes."""

    header: Header
    header_bytes: int
    chunks: tuple[ChunkInfo, ...]
    bytes: int

    @property
    def bpfp(self) -> float:
        """Bits per feature point, everything included."""
        return 8 * self.bytes / (self.header.tokens * self.header.channels)


def inspect(data: bytes) -> Inspection:
    """Read the framing of a whole bitstream without decoding it; no profile is needed.

    Raises:
        BitstreamError: the bytes are no bitstream, are cut short, or a chunk's CRC is wrong.
    """
    found = read_header(data)
    if found is None:
        raise BitstreamError(f"the bitstream ends in its header, after {len(data)} bytes")
    header, place = found
    header_bytes = data[:place]
    chunks: list[ChunkInfo] = []
    while place < len(data):
        length = read_chunk_length(data[place : place + 16], header)
        if length is None or place + length > len(data):
            raise BitstreamError(f"the bitstream ends inside chunk {len(chunks)}")
        body = unframe_chunk(data[place : place + length], header_bytes)
        chunk, _ = read_body(body, header)
        chunks.append(ChunkInfo(chunk.fields.tokens, length, chunk.fields.plain))
        place += length
    return Inspection(header, len(header_bytes), tuple(chunks), len(data))
