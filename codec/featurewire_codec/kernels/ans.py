"""`entropy_coder`'s Encoder and Decoder, compiled: the same words, many times faster.

The state x of a lane is a 64-bit integer; a symbol with frequency f and cumulative count C of 2^24
is pushed as x -> (x // f) 2^24 + x mod f + C, after a word has left x where it would overflow.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import uint32, uint64
from numpy.typing import NDArray

from ..entropy_coder import CODER_BITS, PRECISION_BITS, START, Table, Words
from ..errors import BitstreamError
from .compiled import compiled, inlined

COARSE_BITS = CODER_BITS - PRECISION_BITS


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

    def push_classes(self, symbols: NDArray[np.uint8], runs: Sequence[tuple[int, int]]) -> None:
        """See `entropy_coder.Encoder.push_classes`."""
        lanes = len(self._state)
        room = np.empty((lanes, len(symbols) // lanes + 1), np.uint32)
        used = np.zeros(lanes, np.int64)
        push = _push_classes_1 if lanes == 1 else _push_classes_4
        push(
            symbols, np.array(runs, np.int64).reshape(-1, 2), self._packed, self._state, room, used
        )
        for lane in range(lanes):
            self._parts[lane].append(room[lane, : used[lane]])

    def push_each(self, symbols: NDArray[np.uint8], tables: NDArray[np.uint8]) -> None:
        """See `entropy_coder.Encoder.push_each`."""
        lanes = len(self._state)
        room = np.empty((lanes, len(symbols) // lanes + 1), np.uint32)
        used = np.zeros(lanes, np.int64)
        push = _push_each_1 if lanes == 1 else _push_each_4
        push(symbols, tables, self._packed, self._state, room, used)
        for lane in range(lanes):
            self._parts[lane].append(room[lane, : used[lane]])

    def words(self) -> list[Words]:
        """See `entropy_coder.Encoder.words`."""
        words = []
        for state, parts in zip(self._state.tolist(), self._parts, strict=True):
            tail = [state & 0xFFFFFFFF, state >> 32] if state >> 32 else [state]
            words.append(np.concatenate([*parts, np.array(tail, np.uint32)]))
        return words


class Decoder:
    """See `entropy_coder.Decoder`."""

    def __init__(self, words: Sequence[Words], check: int, tables: Sequence[Table]) -> None:
        """Raises BitstreamError when no encoder ends with these words."""
        if any(len(lane) and lane[-1] == 0 for lane in words):
            raise BitstreamError("the entropy-coded words end in a zero word")
        sizes = [len(lane) for lane in words]
        self._words = np.concatenate([np.zeros(1, np.uint32), *words])
        self._state = np.zeros(len(words), np.uint64)
        self._ends = np.cumsum(sizes) + 1
        self._starts = self._ends - sizes
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

    def pop_classes(self, runs: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
        """See `entropy_coder.Decoder.pop_classes`."""
        pairs = np.array(runs, np.int64).reshape(-1, 2)
        symbols = np.empty(int(pairs[:, 1].sum()), np.uint8)
        pop = _pop_classes_1 if len(self._state) == 1 else _pop_classes_4
        tables = self._packed, self._look_up
        pop(pairs, *tables, self._words, self._starts, self._ends, self._state, symbols)
        return symbols

    def pop_with(self, pop: Any, *arguments: Any) -> None:
        """Run a compiled loop that pops: on the tables, the words and the lanes' states."""
        tables = self._packed, self._look_up
        pop(*arguments, *tables, self._words, self._starts, self._ends, self._state)

    def finish(self) -> None:
        """See `entropy_coder.Decoder.finish`."""
        if (self._ends != self._starts).any() or (self._state != START + self._check).any():
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


_POP = (
    "void(uint32[::1], uint32[::1], uint32[::1], int64[::1], int64[::1], uint64[::1], int32[::1])"
)


@compiled(_POP)
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
def _pushed(x, entry, room, used):  # type: ignore[no-untyped-def]
    """Push the symbol with this entry: the new state and the number of words that have left it."""
    f = entry & uint64(0xFFFFFFFF)
    if (x >> uint64(40)) >= f:
        room[used] = uint32(x & uint64(0xFFFFFFFF))
        used += 1
        x = x >> uint64(32)
    q = x // f
    return (q << uint64(24)) + (x - q * f) + (entry >> uint64(32)), uint64(used)


_PUSH_CLASSES = (
    "void(uint8[::1], int64[:, ::1], uint64[:, ::1], uint64[::1], uint32[:, ::1], int64[::1])"
)


@compiled(_PUSH_CLASSES)
def _push_classes_1(symbols, runs, packed, state, room, used):  # type: ignore[no-untyped-def]
    x = state[0]
    n = uint64(0)
    line = room[0]
    i = len(symbols) - 1
    for run in range(len(runs) - 1, -1, -1):
        table = packed[runs[run, 0]]
        stop = i - runs[run, 1]
        while i > stop:
            x, n = _pushed(x, table[symbols[i]], line, n)
            i -= 1
    state[0] = x
    used[0] = n


@compiled(_PUSH_CLASSES)
def _push_classes_4(symbols, runs, packed, state, room, used):  # type: ignore[no-untyped-def]
    x0, x1, x2, x3 = state[0], state[1], state[2], state[3]
    n0, n1, n2, n3 = uint64(0), uint64(0), uint64(0), uint64(0)
    r0, r1, r2, r3 = room[0], room[1], room[2], room[3]
    i = len(symbols) - 1
    for run in range(len(runs) - 1, -1, -1):
        table = packed[runs[run, 0]]
        stop = i - runs[run, 1]
        while i > stop:
            if (i & 3) == 3 and i - 4 >= stop:
                x3, n3 = _pushed(x3, table[symbols[i]], r3, n3)
                x2, n2 = _pushed(x2, table[symbols[i - 1]], r2, n2)
                x1, n1 = _pushed(x1, table[symbols[i - 2]], r1, n1)
                x0, n0 = _pushed(x0, table[symbols[i - 3]], r0, n0)
                i -= 4
                continue
            lane = i & 3
            if lane == 0:
                x0, n0 = _pushed(x0, table[symbols[i]], r0, n0)
            elif lane == 1:
                x1, n1 = _pushed(x1, table[symbols[i]], r1, n1)
            elif lane == 2:
                x2, n2 = _pushed(x2, table[symbols[i]], r2, n2)
            else:
                x3, n3 = _pushed(x3, table[symbols[i]], r3, n3)
            i -= 1
    state[0], state[1], state[2], state[3] = x0, x1, x2, x3
    used[0], used[1], used[2], used[3] = n0, n1, n2, n3


_PUSH_EACH = (
    "void(uint8[::1], uint8[::1], uint64[:, ::1], uint64[::1], uint32[:, ::1], int64[::1])"
)


@compiled(_PUSH_EACH)
def _push_each_1(symbols, tables, packed, state, room, used):  # type: ignore[no-untyped-def]
    x = state[0]
    n = uint64(0)
    line = room[0]
    for i in range(len(symbols) - 1, -1, -1):
        x, n = _pushed(x, packed[tables[i], symbols[i]], line, n)
    state[0] = x
    used[0] = n


@compiled(_PUSH_EACH)
def _push_each_4(symbols, tables, packed, state, room, used):  # type: ignore[no-untyped-def]
    x0, x1, x2, x3 = state[0], state[1], state[2], state[3]
    n0, n1, n2, n3 = uint64(0), uint64(0), uint64(0), uint64(0)
    r0, r1, r2, r3 = room[0], room[1], room[2], room[3]
    for i in range((len(symbols) - 1) | 3, -1, -4):
        if i < len(symbols):
            x3, n3 = _pushed(x3, packed[tables[i], symbols[i]], r3, n3)
        if i - 1 < len(symbols):
            x2, n2 = _pushed(x2, packed[tables[i - 1], symbols[i - 1]], r2, n2)
        if i - 2 < len(symbols):
            x1, n1 = _pushed(x1, packed[tables[i - 2], symbols[i - 2]], r1, n1)
        x0, n0 = _pushed(x0, packed[tables[i - 3], symbols[i - 3]], r0, n0)
    state[0], state[1], state[2], state[3] = x0, x1, x2, x3
    used[0], used[1], used[2], used[3] = n0, n1, n2, n3


@inlined
def _popped(x, end, start, words, table, look_up):  # type: ignore[no-untyped-def]
    """Pop one symbol: the new state, where the lane's words now end, the symbol."""
    symbol = look_up[(x & uint64(0xFFFFFF)) >> uint64(COARSE_BITS)]
    x, end = popped_entry(x, end, start, words, table[symbol])
    return x, end, symbol


@inlined
def popped_entry(x, end, start, words, entry):  # type: ignore[no-untyped-def]
    """Pop the symbol with this entry: the new state, and where the lane's words now end."""
    q = x & uint64(0xFFFFFF)
    x = (x >> uint64(24)) * (entry & uint64(0xFFFFFFFF)) + (q - (entry >> uint64(32)))
    # words[0] is there to be read, and never used, when a lane has none left
    wider = (x << uint64(32)) | uint64(words[end - 1])
    short = (x < uint64(1 << 32)) & (end > start)
    x = wider if short else x
    end = end - 1 if short else end
    return x, end


_POP_CLASSES = (
    "void(int64[:, ::1], uint64[:, ::1], uint8[:, ::1], uint32[::1], int64[::1], int64[::1],"
    " uint64[::1], uint8[::1])"
)


@compiled(_POP_CLASSES)
def _pop_classes_1(  # type: ignore[no-untyped-def]
    runs, packed, look_up, words, starts, ends, state, symbols
):
    x, end, start = state[0], ends[0], starts[0]
    i = 0
    for run in range(len(runs)):
        table, own = packed[runs[run, 0]], look_up[runs[run, 0]]
        for _ in range(runs[run, 1]):
            x, end, symbols[i] = _popped(x, end, start, words, table, own)
            i += 1
    state[0], ends[0] = x, end


@compiled(_POP_CLASSES)
def _pop_classes_4(  # type: ignore[no-untyped-def]
    runs, packed, look_up, words, starts, ends, state, symbols
):
    x0, x1, x2, x3 = state[0], state[1], state[2], state[3]
    e0, e1, e2, e3 = ends[0], ends[1], ends[2], ends[3]
    s0, s1, s2, s3 = starts[0], starts[1], starts[2], starts[3]
    i = 0
    for run in range(len(runs)):
        table, own = packed[runs[run, 0]], look_up[runs[run, 0]]
        stop = i + runs[run, 1]
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
