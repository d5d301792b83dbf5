"""The decoder: pieces of a bitstream in, tokens out as their chunks complete."""

import functools
from bisect import bisect
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .bitstream import (
    Chunk,
    Header,
    check_of,
    check_shape,
    max_body_bytes,
    read_body,
    read_chunk_length,
    read_header,
    unframe_chunk,
    write_header,
)
from .block_dct import BlockDct
from .coefficients import decode_symbols
from .errors import BitstreamError, ChunkError, ProfileError
from .floats import all_finite
from .one_sided_chunk import decode_walk
from .one_sided_transform import OneSided
from .profile import Profile
from .session_framing import FRAMED, LEAD_BYTES, chunk_body, read_lead
from .span import Coding, Quantised, rebuild
from .transform import Floats, Geometry, Index, Layout, Transform, plain_transform

if TYPE_CHECKING:
    import torch

_NAMED = 4  # ranges of lost tokens, in a message


class Rows(NamedTuple):
    """Decoded tokens: which ones, and their values torch.float32[len(tokens), channels]."""

    tokens: range
    values: "torch.Tensor"


class Decoder:
    """Decodes one bitstream that arrives in pieces of any size, yielding tokens as they complete.

    Chunks may arrive in any order after the header. A damaged chunk raises a ChunkError; feeding
    on (also with `b""`) goes on behind it, and `missing` names the tokens that are lost. Any other
    BitstreamError ends the bitstream, and so does damage to a chunk's length: where the next chunk
    begins is lost with it.

    A session's bitstream of one chunk says nowhere where it ends: feed it whole.
    """

    def __init__(
        self,
        profile: Profile | None = None,
        coding: Coding | None = None,
        shape: tuple[int, int] | None = None,
        grid: tuple[int, int] | None = None,
    ) -> None:
        """`header` is None until the header has arrived.

        `coding` is the profile's, when at hand. `shape` and `grid` are those that a session has
        agreed on; without them the bitstream is a file's.

        Raises:
            BitstreamError: they are beyond the limits.
        """
        self.profile = profile
        self._coding = coding or (Coding(profile) if profile else None)
        self.header: Header | None = None
        self._agreed: Header | None = None
        if shape is not None:
            digest = self._coding.digest if self._coding else None
            self._agreed = _agreed(
                shape, grid, digest, bool(self._coding and self._coding.adaptive)
            )
        self._form = FRAMED
        self._header_bytes = b""
        self._buffer = bytearray()
        self._done: list[tuple[int, int]] = []

    def feed(self, data: bytes) -> Iterator[Rows]:
        """Take the next bytes; the iterator yields what they complete.

        Raises (while iterating):
            ChunkError: one chunk is damaged, repeated or out of place.
            BitstreamError: the bytes are no bitstream.
            ProfileError: the bitstream was made with another profile.
        """
        self._buffer += memoryview(data)
        return self._drain()

    def finish(self) -> None:
        """Check that the bitstream was complete.

        Raises:
            BitstreamError: tokens are missing, or bytes are left over.
        """
        if self.header is None:
            raise BitstreamError(
                f"the bitstream ends in its header, after {len(self._buffer)} bytes"
            )
        if lost := self.missing:
            count = sum(map(len, lost))
            raise BitstreamError(f"{count} of {self.header.tokens} tokens miss: {self._lost()}")
        if self._buffer:
            raise BitstreamError(f"{len(self._buffer)} bytes follow the last chunk")

    @property
    def missing(self) -> list[range]:
        """The tokens that have not arrived, in order; none before the header has."""
        if self.header is None or self._done == [(0, self.header.tokens)]:
            return []
        ends = [0, *(end for part in self._done for end in part), self.header.tokens]
        return [range(*pair) for pair in _pairs(ends) if pair[0] < pair[1]]

    def _lost(self) -> str:
        lost = self.missing
        more = f" and {len(lost) - _NAMED} more ranges" if len(lost) > _NAMED else ""
        return ", ".join(_name(tokens) for tokens in lost[:_NAMED]) + more

    def _drain(self) -> Iterator[Rows]:
        import torch

        if self.header is None and not self._read_header():
            return
        assert self.header is not None
        while self._buffer:
            body = self._next_body(self.header)
            if body is None:
                return
            tokens, values = self._decode_body(body, self.header)
            yield Rows(tokens, torch.from_numpy(values))

    def _read_header(self) -> bool:
        """Read what comes before all chunks, once it is there; tell whether it was."""
        length = LEAD_BYTES
        if self._agreed is not None:
            if len(self._buffer) < LEAD_BYTES:
                return False
            header, self._form = read_lead(bytes(self._buffer[:LEAD_BYTES]), self._agreed)
        else:
            found = read_header(bytes(self._buffer[:64]))
            if found is None:
                return False
            header, length = found
        self._check_profile(header)
        self.header, self._header_bytes = header, write_header(header)
        del self._buffer[:length]
        return True

    def _next_body(self, header: Header) -> bytes | None:
        """Take the next chunk's body off the buffer; None while it is not all there."""
        if self._agreed is not None:
            taken = chunk_body(self._buffer, self._form, header, max_body_bytes(header))
            if taken is None:
                return None
            body, length = taken
            del self._buffer[:length]
            return body
        whole = read_chunk_length(bytes(self._buffer[:16]), header)
        if whole is None or whole > len(self._buffer):
            return None
        data = bytes(self._buffer[:whole])
        del self._buffer[:whole]
        try:
            return unframe_chunk(data, self._header_bytes)
        except ChunkError as error:
            raise ChunkError(f"{error}; so far {self._lost()} miss") from error

    def _check_profile(self, header: Header) -> None:
        if header.profile is None:
            return
        if self.profile is None:
            raise ProfileError(
                f"the bitstream needs the profile {header.profile.hex()}, none is set"
            )
        own = self._coding.digest if self._coding else b""
        if own != header.profile:
            raise ProfileError(
                f"the bitstream needs the profile {header.profile.hex()}, this is {own.hex()}"
            )
        if header.channels != self.profile.channels:
            raise BitstreamError(
                f"the bitstream has {header.channels} channels, its profile {self.profile.channels}"
            )

    def _decode_body(self, body: bytes, header: Header) -> tuple[range, Floats]:
        chunk, fields = read_body(body, header)
        tokens = chunk.fields.tokens
        place = bisect(self._done, (tokens.start, tokens.stop))
        before, after = self._done[max(place - 1, 0) : place], self._done[place : place + 1]
        if any(stop > tokens.start for _, stop in before) or any(
            start < tokens.stop for start, _ in after
        ):
            raise ChunkError(f"{_name(tokens)}: some of them have already arrived")
        try:
            values = self._decode_values(chunk, fields, header)
        except BitstreamError as error:
            raise ChunkError(f"{_name(tokens)}: {error}") from error
        start, stop = tokens.start, tokens.stop
        first, last = place, place
        if before and before[0][1] == start:
            start, first = before[0][0], place - 1
        if after and after[0][0] == stop:
            stop, last = after[0][1], place + 1
        self._done[first:last] = [(start, stop)]  # neighbours become one
        return tokens, values

    def _decode_values(self, chunk: Chunk, fields: bytes, header: Header) -> Floats:
        geometry, tokens = (
            Geometry(header.tokens, header.channels, header.grid),
            chunk.fields.tokens,
        )
        transform: Transform = plain_transform(header.channels)
        offsets = table = None
        updates = 0
        if not chunk.fields.plain:
            if header.profile is None or self._coding is None:
                raise BitstreamError("a chunk needs a profile, the header names none")
            if chunk.fields.adaptive != header.adaptive:
                raise BitstreamError("the codewords adapt on one side only")
            if chunk.fields.reset:
                self._coding.reset()
            transform, offsets = self._coding.transform, self._coding.offsets
            table, updates = self._coding.index_table, self._coding.updates
            if isinstance(transform, BlockDct) and header.grid is None:
                raise BitstreamError("a chunk needs a grid, the header has none")

        def lay_out(index: Index) -> Layout:
            layout = transform.layout(geometry, tokens, index)
            if layout is None:
                raise BitstreamError("the chunk does not start and end with bands of blocks")
            return layout

        check = check_of(fields, self._header_bytes, updates)
        if isinstance(transform, OneSided) and offsets is not None:
            if chunk.fields.row_exponents or chunk.fields.column_exponents:
                raise BitstreamError("exponents in a one-sided chunk")
            walked = transform.walk(geometry, tokens, offsets.offsets, header.step_exponent)
            if walked is None:
                raise BitstreamError("the chunk does not begin and end with rows of the grid")
            return _finite(decode_walk(chunk, check, walked, header.midpoint)[1])
        symbols, side, panels, _ = decode_symbols(chunk, check, lay_out, offsets, table, header)
        with np.errstate(over="ignore", invalid="ignore"):
            coefficients = rebuild(symbols, panels, header.step_exponent, header.midpoint)
            values = _finite(transform.inverse(coefficients, geometry, tokens, side.index))
        if header.adaptive and not chunk.fields.plain and self._coding is not None:
            self._coding.learn(Quantised(symbols, side, panels), header.step_exponent)
        return values


@functools.lru_cache(maxsize=256)
def _agreed(
    shape: tuple[int, int], grid: tuple[int, int] | None, digest: bytes | None, adaptive: bool
) -> Header:
    """Return what both sides of a session know of a header, its shape being within the limits."""
    check_shape(*shape, grid)
    return Header(*shape, 0, grid, digest, None if digest else 1.0, adaptive=adaptive)


def _pairs(ends: list[int]) -> Iterator[tuple[int, int]]:
    return zip(ends[::2], ends[1::2], strict=True)


def _name(tokens: range) -> str:
    return f"tokens {tokens.start} to {tokens.stop - 1}"


def _finite(values: Floats) -> Floats:
    if not all_finite(values):
        raise BitstreamError("the values are beyond float32")
    return values
