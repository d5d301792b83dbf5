"""The entropy coder: symbols in, 32-bit words out, and back; and raw bit fields.

constriction's `AnsCoder` defines the words; `kernels.ans` writes and reads the same ones, faster.
Its probabilities are made exact: integers f that sum to 2^24 become the weights f - 1, whose
quantisation has a scale of exactly one, so the cumulative counts are the integers' own sums (no
float rounding can make two machines differ).

ANS: J. Duda, "Asymmetric numeral systems", arXiv 1311.2540.
"""

import functools
from collections.abc import Sequence
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from .errors import BitstreamError

PRECISION_BITS = 14
CODER_BITS = 24
# A coder starts from this state and its check, 24 bits, and must end there: a check for the price
# of what a coder that starts from zero loses on its first symbol.
START = 1 << CODER_BITS
_BLOCK = 1 << 16  # of raw fields at a time: the memory beside them stays small
Words = NDArray[np.uint32]


class Table:
    """The frequencies of one alphabet: integers of at least 1 that sum to 2^24."""

    def __init__(self, frequencies: NDArray[Any]) -> None:
        """`frequencies` are those, or sum to 2^14 as in all frozen tables."""
        total = int(frequencies.sum(dtype=np.int64))
        self.frequencies = frequencies.astype(np.uint32) * np.uint32((1 << CODER_BITS) // total)

    @property
    def certain(self) -> bool:
        """Whether there is one symbol only: it costs nothing, and constriction knows no such."""
        return len(self.frequencies) == 1

    @functools.cached_property
    def model(self) -> Any:
        """The table for constriction."""
        weights = self.frequencies.astype(np.float64) - 1
        return constriction.stream.model.Categorical(weights, perfect=False)

    @functools.cached_property
    def cumulative(self) -> NDArray[np.uint32]:
        """uint32[symbols + 1]: the sum of the frequencies before each symbol."""
        return np.concatenate([[0], np.cumsum(self.frequencies)]).astype(np.uint32)


class Encoder:
    """Pushes symbols onto one or several stacks of words ("lanes"), last ones first."""

    def __init__(self, lanes: int, check: int, tables: Sequence[Table]) -> None:
        """`check` is the 24 bits that the decoder must find; `tables` are the groups'."""
        start = np.array([START + check], np.uint32)
        self._coders = [constriction.stream.stack.AnsCoder(start) for _ in range(lanes)]
        self._tables = tables

    def push(self, symbols: NDArray[np.int32], table: Table) -> None:
        """Push a run of symbols onto the first lane."""
        if len(symbols) and not table.certain:
            self._coders[0].encode_reverse(symbols, table.model)

    def push_groups(self, symbols: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
        """Push symbols sorted by group, so many of each; symbol i goes to lane i modulo lanes."""
        end, lanes = len(symbols), len(self._coders)
        wide = symbols.astype(np.int32)
        for group in np.flatnonzero(counts)[::-1].tolist():
            start = end - int(counts[group])
            for lane, coder in enumerate(self._coders):
                own = wide[start + (lane - start) % lanes : end : lanes]
                if len(own):
                    coder.encode_reverse(np.ascontiguousarray(own), self._tables[group].model)
            end = start

    def push_each(self, symbols: NDArray[np.uint8], tables: NDArray[np.uint8]) -> None:
        """Push symbols with a table each; symbol i goes to lane i modulo the number of lanes."""
        lanes, models = len(self._coders), [table.model for table in self._tables]
        pairs = list(zip(symbols.tolist(), tables.tolist(), strict=True))
        for place in range(len(pairs) - 1, -1, -1):
            symbol, table = pairs[place]
            self._coders[place % lanes].encode_reverse(symbol, models[table])

    def words(self) -> list[Words]:
        """Return the words of each lane, once all is pushed."""
        return [coder.get_compressed() for coder in self._coders]


class Decoder:
    """Pops symbols in the order in which they are to be decoded."""

    def __init__(self, words: Sequence[Words], check: int, tables: Sequence[Table]) -> None:
        """Raises BitstreamError when no encoder ends with these words."""
        try:
            self._coders = [constriction.stream.stack.AnsCoder(lane) for lane in words]
        except ValueError as error:
            raise BitstreamError("the entropy-coded words end in a zero word") from error
        self._check = check
        self._tables = tables

    def pop(self, count: int, table: Table) -> NDArray[np.int32]:
        """Pop the next `count` symbols of the first lane."""
        if count == 0 or table.certain:
            return np.zeros(count, np.int32)
        symbols: NDArray[np.int32] = self._coders[0].decode(table.model, count)
        return symbols

    def pop_groups(self, counts: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Undo `Encoder.push_groups`."""
        lanes = len(self._coders)
        symbols = np.empty(int(counts.sum()), np.uint8)
        start = 0
        for group in np.flatnonzero(counts).tolist():
            count = int(counts[group])
            for lane, coder in enumerate(self._coders):
                own = symbols[start + (lane - start) % lanes : start + count : lanes]
                if len(own):
                    own[:] = coder.decode(self._tables[group].model, len(own))
            start += count
        return symbols

    def pop_each(self, tables: NDArray[np.uint8], place: int) -> NDArray[np.uint8]:
        """Pop symbols that `push_each` pushed with these tables, the first being symbol `place`."""
        lanes = len(self._coders)
        symbols = [
            self._coders[number % lanes].decode(self._tables[table].model)
            for number, table in enumerate(tables.tolist(), place)
        ]
        return np.array(symbols, np.uint8)

    def finish(self) -> None:
        """Raises BitstreamError when the coders are not back where the encoder's began."""
        for coder in self._coders:
            left = coder.get_compressed()
            if len(left) != 1 or int(left[0]) != START + self._check:
                raise BitstreamError("the entropy-coded words do not end where their symbols do")


def pack_fields(values: NDArray[np.int64], widths: NDArray[np.integer]) -> bytes:
    """Pack unsigned values of the given widths in bits, most significant bit first, zero-padded."""
    parts = [
        _bits_of(values[start : start + _BLOCK], widths[start : start + _BLOCK])
        for start in range(0, len(values), _BLOCK)
    ]
    return np.packbits(np.concatenate(parts)).tobytes() if parts else b""


def unpack_fields(data: bytes, widths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Unpack what `pack_fields` packed, of at most 32 bits each; a width of zero gives zero.

    Raises:
        BitstreamError: `data` is not exactly as long as the widths say, or its padding is not zero.
    """
    check_raw_length(data, int(widths.sum(dtype=np.int64)))
    reader, values = FieldReader(data), np.empty(len(widths), np.int64)
    for start in range(0, len(widths), _BLOCK):
        values[start : start + _BLOCK] = reader.take(widths[start : start + _BLOCK])
    return values


class FieldReader:
    """Unpacks fields in turn, where what was read says how wide the next ones are."""

    def __init__(self, data: bytes) -> None:
        self._octets = np.frombuffer(data + bytes(5), np.uint8)
        self._data, self._bit = data, 0

    def take(self, widths: NDArray[np.integer]) -> NDArray[np.int64]:
        """Unpack the next fields, of at most 32 bits each: int64[len(widths)].

        Raises:
            BitstreamError: there are not so many bits.
        """
        width = widths.astype(np.int64)
        ends = self._bit + np.cumsum(width)
        if len(ends) and ends[-1] > 8 * len(self._data):
            raise BitstreamError(f"{len(self._data)} bytes of raw bits, more are due")
        first = ends - width
        # A field lies in the five bytes from the one that it begins in.
        window = np.zeros(len(width), np.int64)
        for byte in range(5):
            window = window << 8 | self._octets[(first >> 3) + byte]
        self._bit = int(ends[-1]) if len(ends) else self._bit
        return (window >> (40 - (first & 7) - width)) & ((1 << width) - 1)

    def finish(self) -> None:
        """Raises BitstreamError when bytes are left over, or the padding is not zero."""
        check_raw_length(self._data, self._bit)


def pack_raw(
    low: NDArray[np.int32], widths: NDArray[np.uint8], excess: NDArray[np.int64]
) -> tuple[bytes, NDArray[np.int32]]:
    """Pack a chunk's raw bits; and tell how many bits each excess + 1 has, from 1 to 32.

    These are the low bits of the given widths, and of each excess + 1 all bits below its highest.
    """
    lengths = np.frexp((excess + 1).astype(np.float64))[1].astype(np.int32)
    below = excess + 1 - (np.int64(1) << (lengths.astype(np.int64) - 1))
    return pack_fields(np.concatenate([low, below]), np.concatenate([widths, lengths - 1])), lengths


def unpack_raw(
    data: bytes, widths: NDArray[np.uint8], lengths: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Undo `pack_raw`: the low bits int32[len(widths)], and the excesses int64[len(lengths)].

    Raises:
        BitstreamError: `data` is not exactly as long as these say, or its padding is not zero.
    """
    values = unpack_fields(data, np.concatenate([widths, lengths - 1]))
    below = values[len(widths) :]
    excess = below + (np.int64(1) << (lengths.astype(np.int64) - 1)) - 1
    return values[: len(widths)].astype(np.int32), excess


def check_raw_length(data: bytes, bits: int) -> None:
    """Check that bytes are exactly as many as so many bits take, and their padding zero.

    Raises:
        BitstreamError: they are not.
    """
    if len(data) != (bits + 7) // 8:
        raise BitstreamError(f"{len(data)} bytes of raw bits, {(bits + 7) // 8} are due")
    if bits % 8 and data[-1] & (0xFF >> bits % 8):
        raise BitstreamError("the padding after the raw bits is not zero")


def _bits_of(values: NDArray[np.int64], widths: NDArray[np.integer]) -> NDArray[np.uint8]:
    widths = widths.astype(np.int64)
    ends = np.cumsum(widths)
    place = np.repeat(ends, widths) - 1 - np.arange(int(widths.sum()))
    return ((np.repeat(values, widths) >> place) & 1).astype(np.uint8)
