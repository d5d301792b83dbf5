"""`entropy_coder`'s Encoder and Decoder, compiled: the same words, many times faster.

The state x of a lane is a 64-bit integer; a symbol with frequency f and cumulative count C of 2^24
is pushed as x -> (x // f) 2^24 + x mod f + C, after a word has left x where it would overflow.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numba import uint32, uint64
from numpy.typing import NDArray

from ..entropy_coder import CODER_BITS, PRECISION_BITS, START, Table, Words
from ..errors import BitstreamError
from ..identity_cache import cached_by_identity
from .compiled import compiled, high_product, inlined

COARSE_BITS = CODER_BITS - PRECISION_BITS
_SLOT_BITS = 15  # few slots stay in the cache; most have one symbol
_SPARE = 64  # words, for what else is pushed, so that room is made once
_NO_ROOM = {lanes: np.empty((lanes, 0), np.uint32) for lanes in (1, 2, 4)}


class Encoder:
    """See `entropy_coder.Encoder`."""

    def __init__(self, lanes: int, check: int, tables: Sequence[Table]) -> None:
        self._state = np.array([START + check] * lanes, np.uint64)
        self._room, self._used, self._most = _NO_ROOM[lanes], np.zeros(lanes, np.int64), 0
        self._factors = packed_tables(tables).factors

    def push(self, symbols: NDArray[np.int32], table: Table) -> None:
        """See `entropy_coder.Encoder.push`."""
        self._make_room(len(symbols))
        arrays = table.frequencies, table.cumulative, self._state, self._room, self._used
        _push(symbols, *arrays)

    def push_groups(self, symbols: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
        """See `entropy_coder.Encoder.push_groups`."""
        lanes = len(self._state)
        self._make_room(len(symbols) // lanes + 1)
        _PUSH[lanes](symbols, counts, self._factors, self._state, self._room, self._used)

    def push_each(self, symbols: NDArray[np.uint8], tables: NDArray[np.uint8]) -> None:
        """See `entropy_coder.Encoder.push_each`."""
        self._make_room(len(symbols) // len(self._state) + 1)
        _push_each(symbols, tables, self._factors, self._state, self._room, self._used)

    def words(self) -> list[Words]:
        """See `entropy_coder.Encoder.words`."""
        self._make_room(2)
        _put_states(self._state, self._room, self._used)
        return [room[:used] for room, used in zip(self._room, self._used.tolist(), strict=True)]

    def _make_room(self, words: int) -> None:
        """Make room for so many more words in each lane."""
        lanes, room = self._room.shape
        before, self._most = self._most, self._most + words
        if self._most > room:
            wider = np.empty((lanes, self._most + _SPARE), np.uint32)
            if before:
                wider[:, :before] = self._room[:, :before]
            self._room = wider


class Decoder:
    """See `entropy_coder.Decoder`."""

    def __init__(self, words: Sequence[Words], check: int, tables: Sequence[Table]) -> None:
        """Raises BitstreamError when no encoder ends with these words."""
        self._words = np.concatenate(words)
        self._state = np.empty(len(words), np.uint64)
        bounds = np.array([0, *accumulate(map(len, words))])
        self._starts, self._ends = bounds[:-1], bounds[1:].copy()
        if not _fill(self._words, self._starts, self._ends, self._state):
            raise BitstreamError("the entropy-coded words end in a zero word")
        self._check = check
        self._tables = packed_tables(tables)

    def pop(self, count: int, table: Table) -> NDArray[np.int32]:
        """See `entropy_coder.Decoder.pop`."""
        symbols = np.empty(count, np.int32)
        if count:
            arrays = table.frequencies, table.cumulative, self._words
            _pop(*arrays, self._starts, self._ends, self._state, symbols)
        return symbols

    def pop_groups(self, counts: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See `entropy_coder.Decoder.pop_groups`."""
        symbols = np.empty(_sum(counts), np.uint8)
        tables, words = self._tables[:3], (self._words, self._starts, self._ends)
        _POP[len(self._state)](counts, *tables, *words, self._state, symbols)
        return symbols

    def pop_each(self, tables: NDArray[np.uint8], place: int) -> NDArray[np.uint8]:
        """See `entropy_coder.Decoder.pop_each`."""
        symbols = np.empty(len(tables), np.uint8)
        self.pop_with(_pop_each, tables, place, symbols)
        return symbols

    def pop_with(self, pop: Any, *arguments: Any) -> None:
        """Run a compiled loop that pops: on the tables, the words and the lanes' states."""
        tables, words = self._tables[:3], (self._words, self._starts, self._ends)
        pop(*arguments, *tables, *words, self._state)

    def finish(self) -> None:
        """See `entropy_coder.Decoder.finish`."""
        states = [START + self._check] * len(self._state)
        if self._state.tolist() != states or self._ends.tolist() != self._starts.tolist():
            raise BitstreamError("the entropy-coded words do not end where their symbols do")


class Packed(NamedTuple):
    """Several tables, as the loops read them.

    entries: uint64[tables, 256], cumulative << 32 | frequency.
    symbols: uint8[tables, 2^14], which one each 2^10 of the 2^24 belong to.
    slots: uint64[tables, 2^9], symbol << 56 | its entry for each 2^15; 0 where they have several.
    factors: uint64[tables, 256, 4], what a state is pushed with: see `pushed`.
    """

    entries: NDArray[np.uint64]
    symbols: NDArray[np.uint8]
    slots: NDArray[np.uint64]
    factors: NDArray[np.uint64]


@cached_by_identity
def packed_tables(tables: Sequence[Table]) -> Packed:
    """Pack tables."""
    frequencies = np.zeros((len(tables), 256), np.uint64)
    starts = np.zeros_like(frequencies)
    symbols = np.zeros((len(tables), 1 << PRECISION_BITS), np.uint8)
    for number, table in enumerate(tables):
        size = len(table.frequencies)
        frequencies[number, :size] = table.frequencies
        starts[number, :size] = table.cumulative[:-1]
        coarse = table.frequencies >> COARSE_BITS
        symbols[number] = np.repeat(np.arange(size, dtype=np.uint8), coarse)
    # x // f is (x >> 9) // divisor, and that is (x >> 9) * factor >> 64 + shift: the factor is
    # 2^(64 + shift) / divisor, rounded up. It is exact: x >> 9 is below divisor * 2^40 (words leave
    # larger states), the divisor at most 2^(shift + 1), the shift at most 14.
    divisor = np.maximum(frequencies >> np.uint64(9), np.uint64(2))
    shift = (np.frexp((divisor - 1).astype(np.float64))[1] - 1).astype(np.uint64)
    high, rest = np.divmod(np.uint64(1) << (shift + np.uint64(32)), divisor)
    low, rest = np.divmod(rest << np.uint64(32), divisor)
    factor = (high << np.uint64(32)) + low + (rest > 0)
    factors = [frequencies, starts << np.uint64(6) | shift, (1 << CODER_BITS) - frequencies, factor]
    entries = starts << np.uint64(32) | frequencies
    every = 1 << _SLOT_BITS - COARSE_BITS
    first, last = symbols[:, ::every], symbols[:, every - 1 :: every]
    slots = np.take_along_axis(entries, first.astype(np.intp), axis=1)
    slots = (slots | first.astype(np.uint64) << np.uint64(56)) * (first == last)
    return Packed(entries, symbols, slots, np.stack(factors, axis=-1))


@compiled("void(int32[::1], uint32[::1], uint32[::1], uint64[::1], uint32[:, ::1], int64[::1])")
def _push(symbols, frequencies, cumulative, state, room, used):  # type: ignore[no-untyped-def]
    x, n = state[0], used[0]
    for i in range(len(symbols) - 1, -1, -1):
        f = uint64(frequencies[symbols[i]])
        if (x >> uint64(40)) >= f:
            room[0, n] = uint32(x & uint64(0xFFFFFFFF))
            n += 1
            x = x >> uint64(32)
        q = x // f
        x = (q << uint64(24)) + (x - q * f) + uint64(cumulative[symbols[i]])
    state[0], used[0] = x, n


@compiled("int64(int64[::1])")
def _sum(counts):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for count in counts:
        total += count
    return total


@compiled("void(uint64[::1], uint32[:, ::1], int64[::1])")
def _put_states(state, room, used):  # type: ignore[no-untyped-def]
    for lane in range(len(state)):
        x = state[lane]
        while x:
            room[lane, used[lane]] = uint32(x & uint64(0xFFFFFFFF))
            used[lane] += 1
            x = x >> uint64(32)


_POP_RUN = (
    "void(uint32[::1], uint32[::1], uint32[::1], int64[::1], int64[::1], uint64[::1], int32[::1])"
)


@compiled(_POP_RUN)
def _pop(frequencies, cumulative, words, starts, ends, state, symbols):  # type: ignore[no-untyped-def]
    x, end = state[0], ends[0]
    for i in range(len(symbols)):
        q = x & uint64(0xFFFFFF)
        low, high = 0, len(frequencies)
        while high - low > 1:
            middle = (low + high) >> 1
            if uint64(cumulative[middle]) <= q:
                low = middle
            else:
                high = middle
        symbols[i] = low
        x = (x >> uint64(24)) * uint64(frequencies[low]) + (q - uint64(cumulative[low]))
        if x < uint64(1 << 32) and end > starts[0]:
            end -= 1
            x = (x << uint64(32)) | uint64(words[end])
    state[0] = x
    ends[0] = end


@compiled("boolean(uint32[::1], int64[::1], int64[::1], uint64[::1])")
def _fill(words, starts, ends, state):  # type: ignore[no-untyped-def]
    """Begin each lane with its last words; tell whether none of these is zero."""
    for lane in range(len(state)):
        x, end = uint64(0), ends[lane]
        if end > starts[lane] and words[end - 1] == 0:
            return False
        while x < uint64(1 << 32) and end > starts[lane]:
            end -= 1
            x = (x << uint64(32)) | uint64(words[end])
        state[lane] = x
        ends[lane] = end
    return True


@inlined
def pushed(x, used, factors, table, symbol, room, lane):  # type: ignore[no-untyped-def]
    """Push a symbol: the new state, and the number of words that have left it.

    x // f is a product, as in the appendix of "Division by invariant integers using multiplication"
    by Granlund and Montgomery, 1994.
    """
    if (x >> uint64(40)) >= factors[table, symbol, 0]:
        room[lane, uint64(used)] = uint32(x & uint64(0xFFFFFFFF))
        used += 1
        x = x >> uint64(32)
    start_and_shift = factors[table, symbol, 1]
    q = high_product(x >> uint64(9), factors[table, symbol, 3]) >> (start_and_shift & uint64(63))
    return x + (start_and_shift >> uint64(6)) + q * factors[table, symbol, 2], used


_PUSH_GROUPS = (
    "void(uint8[::1], int64[::1], uint64[:, :, ::1], uint64[::1], uint32[:, ::1], int64[::1])"
)


@compiled(_PUSH_GROUPS)
def _push_groups_1(symbols, counts, factors, state, room, used):  # type: ignore[no-untyped-def]
    x, n = state[0], used[0]
    i = len(symbols) - 1
    for group in range(len(counts) - 1, -1, -1):
        table, stop = uint64(group), i - counts[group]
        while i > stop:
            x, n = pushed(x, n, factors, table, symbols[uint64(i)], room, 0)
            i -= 1
    state[0], used[0] = x, n


@compiled(_PUSH_GROUPS)
def _push_groups_2(symbols, counts, factors, state, room, used):  # type: ignore[no-untyped-def]
    x0, x1 = state[0], state[1]
    n0, n1 = used[0], used[1]
    i = len(symbols) - 1
    for group in range(len(counts) - 1, -1, -1):
        table, stop = uint64(group), i - counts[group]
        while i > stop:
            if i & 1:
                x1, n1 = pushed(x1, n1, factors, table, symbols[uint64(i)], room, 1)
                i -= 1
            if i > stop:
                x0, n0 = pushed(x0, n0, factors, table, symbols[uint64(i)], room, 0)
                i -= 1
    state[0], state[1] = x0, x1
    used[0], used[1] = n0, n1


@compiled(_PUSH_GROUPS)
def _push_groups_4(symbols, counts, factors, state, room, used):  # type: ignore[no-untyped-def]
    x0, x1, x2, x3 = state[0], state[1], state[2], state[3]
    n0, n1, n2, n3 = used[0], used[1], used[2], used[3]
    i = len(symbols) - 1
    for group in range(len(counts) - 1, -1, -1):
        table, stop = uint64(group), i - counts[group]
        while i > stop:
            lane = i & 3
            if lane == 3:
                while i - 4 >= stop:
                    x3, n3 = pushed(x3, n3, factors, table, symbols[uint64(i)], room, 3)
                    x2, n2 = pushed(x2, n2, factors, table, symbols[uint64(i - 1)], room, 2)
                    x1, n1 = pushed(x1, n1, factors, table, symbols[uint64(i - 2)], room, 1)
                    x0, n0 = pushed(x0, n0, factors, table, symbols[uint64(i - 3)], room, 0)
                    i -= 4
                if i == stop:
                    break
                x3, n3 = pushed(x3, n3, factors, table, symbols[uint64(i)], room, 3)
            elif lane == 2:
                x2, n2 = pushed(x2, n2, factors, table, symbols[uint64(i)], room, 2)
            elif lane == 1:
                x1, n1 = pushed(x1, n1, factors, table, symbols[uint64(i)], room, 1)
            else:
                x0, n0 = pushed(x0, n0, factors, table, symbols[uint64(i)], room, 0)
            i -= 1
    state[0], state[1], state[2], state[3] = x0, x1, x2, x3
    used[0], used[1], used[2], used[3] = n0, n1, n2, n3


@compiled(
    "void(uint8[::1], uint8[::1], uint64[:, :, ::1], uint64[::1], uint32[:, ::1], int64[::1])"
)
def _push_each(symbols, tables, factors, state, room, used):  # type: ignore[no-untyped-def]
    mask = len(state) - 1  # there are 1, 2 or 4 lanes
    i = len(symbols) - 1
    while i >= 0 and not (i & 3 == 3 and mask == 3):
        lane, at = i & mask, uint64(i)
        state[lane], used[lane] = pushed(
            state[lane], used[lane], factors, tables[at], symbols[at], room, lane
        )
        i -= 1
    if i < 0:
        return
    x0, x1, x2, x3 = state[0], state[1], state[2], state[3]
    n0, n1, n2, n3 = used[0], used[1], used[2], used[3]
    while i >= 0:
        at = uint64(i)
        x3, n3 = pushed(x3, n3, factors, tables[at], symbols[at], room, 3)
        at = uint64(i - 1)
        x2, n2 = pushed(x2, n2, factors, tables[at], symbols[at], room, 2)
        at = uint64(i - 2)
        x1, n1 = pushed(x1, n1, factors, tables[at], symbols[at], room, 1)
        at = uint64(i - 3)
        x0, n0 = pushed(x0, n0, factors, tables[at], symbols[at], room, 0)
        i -= 4
    state[0], state[1], state[2], state[3] = x0, x1, x2, x3
    used[0], used[1], used[2], used[3] = n0, n1, n2, n3


@inlined
def popped(x, end, start, words, entry):  # type: ignore[no-untyped-def]
    """Pop the symbol of an entry: the new state, and where the lane's words now end."""
    low = x & uint64(0xFFFFFF)
    x = (x >> uint64(24)) * (entry & uint64(0xFFFFFFFF)) + (low - (entry >> uint64(32)))
    if x < uint64(1 << 32) and end > start:
        end -= 1
        x = (x << uint64(32)) | uint64(words[uint64(end)])
    return x, end


@inlined
def _popped(x, end, start, words, packed, look_up, table):  # type: ignore[no-untyped-def]
    """Pop one symbol of a table: the new state, where the lane's words now end, the symbol."""
    symbol = look_up[table, (x & uint64(0xFFFFFF)) >> uint64(COARSE_BITS)]
    x, end = popped(x, end, start, words, packed[table, symbol])
    return x, end, symbol


@inlined
def popped_soon(x, end, start, words, packed, look_up, slots, table):  # type: ignore[no-untyped-def]
    """Do the same with one load after the other for few symbols only: a lane waits for each."""
    low = x & uint64(0xFFFFFF)
    entry = slots[table, low >> uint64(_SLOT_BITS)]
    symbol = np.uint8(entry >> uint64(56))
    if entry == 0:
        symbol = look_up[table, low >> uint64(COARSE_BITS)]
        entry = packed[table, symbol]
    x, end = popped(x, end, start, words, entry & uint64((1 << 56) - 1))
    return x, end, symbol


_POP_GROUPS = (
    "void(int64[::1], uint64[:, ::1], uint8[:, ::1], uint64[:, ::1], uint32[::1], int64[::1],"
    " int64[::1], uint64[::1], uint8[::1])"
)


@compiled(_POP_GROUPS)
def _pop_groups_1(  # type: ignore[no-untyped-def]
    counts, packed, look_up, slots, words, starts, ends, state, symbols
):
    x, end, start = state[0], ends[0], starts[0]
    i = uint64(0)
    for group in range(len(counts)):
        table = uint64(group)
        for _ in range(counts[group]):
            x, end, symbols[i] = popped_soon(x, end, start, words, packed, look_up, slots, table)
            i += uint64(1)
    state[0], ends[0] = x, end


@compiled(_POP_GROUPS)
def _pop_groups_2(  # type: ignore[no-untyped-def]
    counts, packed, look_up, slots, words, starts, ends, state, symbols
):
    x0, x1 = state[0], state[1]
    e0, e1 = ends[0], ends[1]
    s0, s1 = starts[0], starts[1]
    i = stop = uint64(0)
    for group in range(len(counts)):
        table = uint64(group)
        stop += uint64(counts[group])
        while i < stop:
            if i & uint64(1) == 0:
                x0, e0, symbols[i] = popped_soon(x0, e0, s0, words, packed, look_up, slots, table)
                i += uint64(1)
            if i < stop:
                x1, e1, symbols[i] = popped_soon(x1, e1, s1, words, packed, look_up, slots, table)
                i += uint64(1)
    state[0], state[1] = x0, x1
    ends[0], ends[1] = e0, e1


@compiled(_POP_GROUPS)
def _pop_groups_4(  # type: ignore[no-untyped-def]
    counts, packed, look_up, _, words, starts, ends, state, symbols
):
    x0, x1, x2, x3 = state[0], state[1], state[2], state[3]
    e0, e1, e2, e3 = ends[0], ends[1], ends[2], ends[3]
    s0, s1, s2, s3 = starts[0], starts[1], starts[2], starts[3]
    i = stop = uint64(0)
    one, four = uint64(1), uint64(4)
    for group in range(len(counts)):
        table = uint64(group)
        stop += uint64(counts[group])
        while i < stop:
            lane = i & uint64(3)
            if lane == 0:
                while i + four <= stop:
                    x0, e0, symbols[i] = _popped(x0, e0, s0, words, packed, look_up, table)
                    x1, e1, symbols[i + one] = _popped(x1, e1, s1, words, packed, look_up, table)
                    x2, e2, symbols[i + uint64(2)] = _popped(
                        x2, e2, s2, words, packed, look_up, table
                    )
                    x3, e3, symbols[i + uint64(3)] = _popped(
                        x3, e3, s3, words, packed, look_up, table
                    )
                    i += four
                if i == stop:
                    break
                x0, e0, symbols[i] = _popped(x0, e0, s0, words, packed, look_up, table)
            elif lane == 1:
                x1, e1, symbols[i] = _popped(x1, e1, s1, words, packed, look_up, table)
            elif lane == 2:
                x2, e2, symbols[i] = _popped(x2, e2, s2, words, packed, look_up, table)
            else:
                x3, e3, symbols[i] = _popped(x3, e3, s3, words, packed, look_up, table)
            i += one
    state[0], state[1], state[2], state[3] = x0, x1, x2, x3
    ends[0], ends[1], ends[2], ends[3] = e0, e1, e2, e3


_PUSH = {1: _push_groups_1, 2: _push_groups_2, 4: _push_groups_4}
_POP = {1: _pop_groups_1, 2: _pop_groups_2, 4: _pop_groups_4}


@compiled(
    "void(uint8[::1], int64, uint8[::1], uint64[:, ::1], uint8[:, ::1], uint64[:, ::1],"
    " uint32[::1], int64[::1], int64[::1], uint64[::1])"
)
def _pop_each(  # type: ignore[no-untyped-def]
    tables, place, symbols, packed, look_up, slots, words, starts, ends, state
):
    mask = len(state) - 1  # there are 1, 2 or 4 lanes
    for i in range(len(tables)):
        lane, own = (place + i) & mask, tables[i]
        state[lane], ends[lane], symbols[i] = popped_soon(
            state[lane], ends[lane], starts[lane], words, packed, look_up, slots, own
        )
