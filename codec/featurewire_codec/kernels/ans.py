"""`entropy_coder`'s Encoder and Decoder, compiled: the same words, many times faster.

The state x of a lane is a 64-bit integer; a symbol with frequency f and cumulative count C of 2^24
is pushed as x -> (x // f) 2^24 + x mod f + C, after a word has left x where it would overflow.
"""

import functools
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numba import uint32, uint64
from numpy.typing import NDArray

from ..entropy_coder import CODER_BITS, PRECISION_BITS, START, Table, Words
from ..errors import BitstreamError
from .compiled import compiled, inlined

COARSE_BITS = CODER_BITS - PRECISION_BITS
_GUARD = np.zeros(1, np.uint32)


class Encoder:
    """See `entropy_coder.Encoder`."""

    def __init__(self, lanes: int, check: int, tables: Sequence[Table]) -> None:
        self._state = np.full(lanes, START + check, np.uint64)
        self._parts: list[list[Words]] = [[] for _ in range(lanes)]
        self._packed = packed_tables(tuple(tables))[0]

    def push(self, symbols: NDArray[np.int32], table: Table) -> None:
        """See `entropy_coder.Encoder.push`."""
        if len(symbols):
            room = np.empty(len(symbols), np.uint32)
            used = _push(symbols, table.frequencies, table.cumulative, self._state, room)
            if used:
                self._parts[0].append(room[:used])

    def push_groups(self, symbols: NDArray[np.uint8], counts: NDArray[np.int64]) -> None:
        """See `entropy_coder.Encoder.push_groups`."""
        lanes = len(self._state)
        room = np.empty((lanes, len(symbols) // lanes + 1), np.uint32)
        used = np.zeros(lanes, np.int64)
        _PUSH[lanes](symbols, counts, self._packed, self._state, room, used)
        for lane in range(lanes):
            self._parts[lane].append(room[lane, : used[lane]])

    def push_each(self, symbols: NDArray[np.uint8], tables: NDArray[np.uint8]) -> None:
        """See `entropy_coder.Encoder.push_each`."""
        lanes = len(self._state)
        room = np.empty((lanes, len(symbols) // lanes + 1), np.uint32)
        used = np.zeros(lanes, np.int64)
        _push_each(symbols, tables, self._packed, self._state, room.ravel(), used)
        for lane in range(lanes):
            self._parts[lane].append(room[lane, : used[lane]])

    def words(self) -> list[Words]:
        """See `entropy_coder.Encoder.words`."""
        words = []
        for state, parts in zip(self._state.view("<u4").reshape(-1, 2), self._parts, strict=True):
            words.append(np.concatenate([*parts, state if state[1] else state[:1]]))
        return words


class Decoder:
    """See `entropy_coder.Decoder`."""

    def __init__(self, words: Sequence[Words], check: int, tables: Sequence[Table]) -> None:
        """Raises BitstreamError when no encoder ends with these words."""
        if any(len(lane) and lane[-1] == 0 for lane in words):
            raise BitstreamError("the entropy-coded words end in a zero word")
        self._words = np.concatenate([_GUARD, *words])
        self._state = np.zeros(len(words), np.uint64)
        ends = list(accumulate(map(len, words), initial=1))
        self._starts, self._ends = np.array(ends[:-1], np.int64), np.array(ends[1:], np.int64)
        _fill(self._words, self._starts, self._ends, self._state)
        self._check = check
        self._packed, self._look_up = packed_tables(tuple(tables))

    def pop(self, count: int, table: Table) -> NDArray[np.int32]:
        """See `entropy_coder.Decoder.pop`."""
        symbols = np.empty(count, np.int32)
        if count:
            arrays = table.frequencies, table.cumulative, self._words
            _pop(*arrays, self._starts, self._ends, self._state, symbols)
        return symbols

    def pop_groups(self, counts: NDArray[np.int64]) -> NDArray[np.uint8]:
        """See `entropy_coder.Decoder.pop_groups`."""
        symbols = np.empty(int(counts.sum()), np.uint8)
        tables, words = (self._packed, self._look_up), (self._words, self._starts, self._ends)
        _POP[len(self._state)](counts, *tables, *words, self._state, symbols)
        return symbols

    def pop_each(self, tables: NDArray[np.uint8], place: int) -> NDArray[np.uint8]:
        """See `entropy_coder.Decoder.pop_each`."""
        symbols = np.empty(len(tables), np.uint8)
        self.pop_with(_pop_each, tables, place, symbols)
        return symbols

    def pop_with(self, pop: Any, *arguments: Any) -> None:
        """Run a compiled loop that pops: on the tables, the words and the lanes' states."""
        tables, words = (self._packed, self._look_up), (self._words, self._starts, self._ends)
        pop(*arguments, *tables, *words, self._state)

    def finish(self) -> None:
        """See `entropy_coder.Decoder.finish`."""
        state = START + self._check
        if any(own != state for own in self._state.tolist()) or (
            self._ends.tolist() != self._starts.tolist()
        ):
            raise BitstreamError("the entropy-coded words do not end where their symbols do")


@functools.lru_cache(maxsize=8)
def packed_tables(tables: tuple[Table, ...]) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """Return uint64[tables, 256], cumulative << 32 | frequency, and symbols uint8[tables, 2^14]."""
    packed = np.zeros((len(tables), 256), np.uint64)
    look_up = np.zeros((len(tables), 1 << PRECISION_BITS), np.uint8)
    for number, table in enumerate(tables):
        size = len(table.frequencies)
        packed[number, :size] = table.cumulative[:-1].astype(np.uint64) << np.uint64(32)
        packed[number, :size] |= table.frequencies
        coarse = table.frequencies >> COARSE_BITS
        look_up[number] = np.repeat(np.arange(size, dtype=np.uint8), coarse)
    return packed, look_up


@compiled("int64(int32[::1], uint32[::1], uint32[::1], uint64[::1], uint32[::1])")
def _push(symbols, frequencies, cumulative, state, room):  # type: ignore[no-untyped-def]
    x = state[0]
    used = 0
    for i in range(len(symbols) - 1, -1, -1):
        f = uint64(frequencies[symbols[i]])
        if (x >> uint64(40)) >= f:
            room[used] = uint32(x & uint64(0xFFFFFFFF))
            used += 1
            x = x >> uint64(32)
        q = x // f
        x = (q << uint64(24)) + (x - q * f) + uint64(cumulative[symbols[i]])
    state[0] = x
    return used


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


@compiled("void(uint32[::1], int64[::1], int64[::1], uint64[::1])")
def _fill(words, starts, ends, state):  # type: ignore[no-untyped-def]
    for lane in range(len(state)):
        x, end = uint64(0), ends[lane]
        while x < uint64(1 << 32) and end > starts[lane]:
            end -= 1
            x = (x << uint64(32)) | uint64(words[end])
        state[lane] = x
        ends[lane] = end


@inlined
def pushed(x, entry, room, used):  # type: ignore[no-untyped-def]
    """Push the symbol of an entry: the new state and the number of words that have left it."""
    f = entry & uint64(0xFFFFFFFF)
    if (x >> uint64(40)) >= f:
        room[used] = uint32(x & uint64(0xFFFFFFFF))
        used += 1
        x = x >> uint64(32)
    q = x // f
    return (q << uint64(24)) + (x - q * f) + (entry >> uint64(32)), uint64(used)


_PUSH_GROUPS = (
    "void(uint8[::1], int64[::1], uint64[:, ::1], uint64[::1], uint32[:, ::1], int64[::1])"
)


@compiled(_PUSH_GROUPS)
def _push_groups_1(symbols, counts, packed, state, room, used):  # type: ignore[no-untyped-def]
    x = state[0]
    n = uint64(0)
    line = room[0]
    i = len(symbols) - 1
    for group in range(len(counts) - 1, -1, -1):
        if counts[group] == 0:
            continue
        table = packed[group]
        stop = i - counts[group]
        while i > stop:
            x, n = pushed(x, table[symbols[i]], line, n)
            i -= 1
    state[0] = x
    used[0] = n


@compiled(_PUSH_GROUPS)
def _push_groups_2(symbols, counts, packed, state, room, used):  # type: ignore[no-untyped-def]
    x0, x1 = state[0], state[1]
    n0, n1 = uint64(0), uint64(0)
    r0, r1 = room[0], room[1]
    i = len(symbols) - 1
    for group in range(len(counts) - 1, -1, -1):
        if counts[group] == 0:
            continue
        table = packed[group]
        stop = i - counts[group]
        while i > stop:
            if (i & 1) == 0:
                x0, n0 = pushed(x0, table[symbols[i]], r0, n0)
                i -= 1
                continue
            x1, n1 = pushed(x1, table[symbols[i]], r1, n1)
            i -= 1
            if i > stop:
                x0, n0 = pushed(x0, table[symbols[i]], r0, n0)
                i -= 1
    state[0], state[1] = x0, x1
    used[0], used[1] = n0, n1


@compiled(_PUSH_GROUPS)
def _push_groups_4(symbols, counts, packed, state, room, used):  # type: ignore[no-untyped-def]
    x0, x1, x2, x3 = state[0], state[1], state[2], state[3]
    n0, n1, n2, n3 = uint64(0), uint64(0), uint64(0), uint64(0)
    r0, r1, r2, r3 = room[0], room[1], room[2], room[3]
    i = len(symbols) - 1
    for group in range(len(counts) - 1, -1, -1):
        if counts[group] == 0:
            continue
        table = packed[group]
        stop = i - counts[group]
        while i > stop:
            if (i & 3) == 3 and i - 4 >= stop:
                x3, n3 = pushed(x3, table[symbols[i]], r3, n3)
                x2, n2 = pushed(x2, table[symbols[i - 1]], r2, n2)
                x1, n1 = pushed(x1, table[symbols[i - 2]], r1, n1)
                x0, n0 = pushed(x0, table[symbols[i - 3]], r0, n0)
                i -= 4
                continue
            lane = i & 3
            if lane == 0:
                x0, n0 = pushed(x0, table[symbols[i]], r0, n0)
            elif lane == 1:
                x1, n1 = pushed(x1, table[symbols[i]], r1, n1)
            elif lane == 2:
                x2, n2 = pushed(x2, table[symbols[i]], r2, n2)
            else:
                x3, n3 = pushed(x3, table[symbols[i]], r3, n3)
            i -= 1
    state[0], state[1], state[2], state[3] = x0, x1, x2, x3
    used[0], used[1], used[2], used[3] = n0, n1, n2, n3


@compiled("void(uint8[::1], uint8[::1], uint64[:, ::1], uint64[::1], uint32[::1], int64[::1])")
def _push_each(symbols, tables, packed, state, room, used):  # type: ignore[no-untyped-def]
    mask = len(state) - 1  # there are 1, 2 or 4 lanes
    ends = np.arange(len(state)) * (len(room) // len(state))
    starts = ends.copy()
    for i in range(len(symbols) - 1, -1, -1):
        lane = i & mask
        entry = packed[tables[i], symbols[i]]
        state[lane], ends[lane] = pushed(state[lane], entry, room, ends[lane])
    used[:] = ends - starts


@inlined
def _popped(x, end, start, words, table, look_up):  # type: ignore[no-untyped-def]
    """Pop one symbol: the new state, where the lane's words now end, the symbol."""
    symbol = look_up[(x & uint64(0xFFFFFF)) >> uint64(COARSE_BITS)]
    x, end = popped(x, end, start, words, table[symbol])
    return x, end, symbol


@inlined
def popped(x, end, start, words, entry):  # type: ignore[no-untyped-def]
    """Pop the symbol of an entry: the new state, and where the lane's words now end."""
    q = x & uint64(0xFFFFFF)
    x = (x >> uint64(24)) * (entry & uint64(0xFFFFFFFF)) + (q - (entry >> uint64(32)))
    # words[0] is there to be read, and never used, when a lane has none left
    wider = (x << uint64(32)) | uint64(words[end - 1])
    short = (x < uint64(1 << 32)) & (end > start)
    x = wider if short else x
    end = end - 1 if short else end
    return x, end


_POP_GROUPS = (
    "void(int64[::1], uint64[:, ::1], uint8[:, ::1], uint32[::1], int64[::1], int64[::1],"
    " uint64[::1], uint8[::1])"
)


@compiled(_POP_GROUPS)
def _pop_groups_1(  # type: ignore[no-untyped-def]
    counts, packed, look_up, words, starts, ends, state, symbols
):
    x, end, start = state[0], ends[0], starts[0]
    i = 0
    for group in range(len(counts)):
        if counts[group] == 0:
            continue
        table, own = packed[group], look_up[group]
        for _ in range(counts[group]):
            x, end, symbols[i] = _popped(x, end, start, words, table, own)
            i += 1
    state[0], ends[0] = x, end


@compiled(_POP_GROUPS)
def _pop_groups_2(  # type: ignore[no-untyped-def]
    counts, packed, look_up, words, starts, ends, state, symbols
):
    x0, x1 = state[0], state[1]
    e0, e1 = ends[0], ends[1]
    s0, s1 = starts[0], starts[1]
    i = 0
    for group in range(len(counts)):
        if counts[group] == 0:
            continue
        table, own = packed[group], look_up[group]
        stop = i + counts[group]
        while i < stop:
            if i & 1:
                x1, e1, symbols[i] = _popped(x1, e1, s1, words, table, own)
                i += 1
                continue
            x0, e0, symbols[i] = _popped(x0, e0, s0, words, table, own)
            i += 1
            if i < stop:
                x1, e1, symbols[i] = _popped(x1, e1, s1, words, table, own)
                i += 1
    state[0], state[1] = x0, x1
    ends[0], ends[1] = e0, e1


@compiled(_POP_GROUPS)
def _pop_groups_4(  # type: ignore[no-untyped-def]
    counts, packed, look_up, words, starts, ends, state, symbols
):
    x0, x1, x2, x3 = state[0], state[1], state[2], state[3]
    e0, e1, e2, e3 = ends[0], ends[1], ends[2], ends[3]
    s0, s1, s2, s3 = starts[0], starts[1], starts[2], starts[3]
    i = 0
    for group in range(len(counts)):
        if counts[group] == 0:
            continue
        table, own = packed[group], look_up[group]
        stop = i + counts[group]
        while i < stop:
            if (i & 3) == 0 and i + 4 <= stop:
                x0, e0, symbols[i] = _popped(x0, e0, s0, words, table, own)
                x1, e1, symbols[i + 1] = _popped(x1, e1, s1, words, table, own)
                x2, e2, symbols[i + 2] = _popped(x2, e2, s2, words, table, own)
                x3, e3, symbols[i + 3] = _popped(x3, e3, s3, words, table, own)
                i += 4
                continue
            lane = i & 3
            if lane == 0:
                x0, e0, symbols[i] = _popped(x0, e0, s0, words, table, own)
            elif lane == 1:
                x1, e1, symbols[i] = _popped(x1, e1, s1, words, table, own)
            elif lane == 2:
                x2, e2, symbols[i] = _popped(x2, e2, s2, words, table, own)
            else:
                x3, e3, symbols[i] = _popped(x3, e3, s3, words, table, own)
            i += 1
    state[0], state[1], state[2], state[3] = x0, x1, x2, x3
    ends[0], ends[1], ends[2], ends[3] = e0, e1, e2, e3


_PUSH = {1: _push_groups_1, 2: _push_groups_2, 4: _push_groups_4}
_POP = {1: _pop_groups_1, 2: _pop_groups_2, 4: _pop_groups_4}


@compiled(
    "void(uint8[::1], int64, uint8[::1], uint64[:, ::1], uint8[:, ::1], uint32[::1], int64[::1],"
    " int64[::1], uint64[::1])"
)
def _pop_each(  # type: ignore[no-untyped-def]
    tables, place, symbols, packed, look_up, words, starts, ends, state
):
    mask = len(state) - 1  # there are 1, 2 or 4 lanes
    for i in range(len(tables)):
        lane, own = (place + i) & mask, tables[i]
        state[lane], ends[lane], symbols[i] = _popped(
            state[lane], ends[lane], starts[lane], words, packed[own], look_up[own]
        )
