"""`trellis`, compiled: the same integers and floats, many times faster."""

from collections.abc import Sequence

import numpy as np
from numba import uint64
from numpy.typing import NDArray

from ..entropy_model import CLASSES, GROUP_CLASS, GROUP_RAW_BITS, GROUPS
from ..identity_cache import cached_by_identity
from ..panels import CENTROID_UNIT, Floats, PanelShape, PanelValues, too_large
from ..trellis import (
    NEXT_STATE,
    Bytes,
    TrellisCosts,
    TrellisSymbols,
    has_raw,
)
from .ans import Decoder, popped_soon
from .compiled import compiled, inlined
from .trellis_search import search

_CLASS = GROUP_CLASS.astype(np.int64)
_RAW = GROUP_RAW_BITS.astype(np.int64)
_LAST = GROUPS - 1
_NEXT = NEXT_STATE.ravel()
_NO_LOW = _NO_PLACES = np.zeros(0, np.int32)
_TILE = 64  # columns at a time: their symbols stay in the cache


def quantise(
    panels: Sequence[PanelValues],
    inverse_step: float,
    rounding: TrellisCosts,
    radii: NDArray[np.int32],
) -> TrellisSymbols:
    """See `trellis.quantise`."""
    widths = raw_widths([(ladder, shifts) for _, ladder, shifts in panels])
    total = sum(matrix.size for matrix, _, _ in panels)
    symbols, tables = np.empty(total, np.uint8), np.empty(total, np.uint8)
    low = np.zeros(total, np.int32) if len(widths) else _NO_LOW
    escape_place, excess = np.empty(total, np.int64), np.empty(total, np.int64)
    escapes = start = 0
    for values, ladder, shifts in panels:
        escapes = search(
            values, ladder.order, ladder.first, ladder.lowest, shifts, np.float32(inverse_step),
            rounding.costs, radii, start, symbols, tables, low, escape_place, excess, escapes,
        )  # fmt: skip
        if escapes < 0:
            raise too_large()
        start += values.size
    order = np.argsort(escape_place[:escapes])
    return TrellisSymbols(symbols, tables, low, widths, excess[:escapes][order])


def dequantise(
    coded: TrellisSymbols,
    panels: Sequence[PanelShape],
    step: float,
    radii: NDArray[np.int32],
    centroids: NDArray[np.int8],
) -> list[Floats]:
    """See `trellis.dequantise`."""
    rebuilt, near = _rebuilt(radii, centroids), centroids.reshape(-1, centroids.shape[-1])
    special = _NO_PLACES
    if len(coded.excess) or len(coded.widths):
        places = np.empty(len(coded.symbols), np.int32)
        found = _find_special(coded.symbols, coded.tables, coded.widths, radii, places)
        special = places[:found]
    parts, start, escapes, step32 = [], 0, 0, np.float32(step)
    for ladder, shifts in panels:
        values, order = np.empty((len(shifts), ladder.columns), np.float32), ladder.order
        _rebuild(coded.symbols, coded.tables, order, step32, rebuilt, start, values)
        if len(special):
            escapes = _mend(
                coded.symbols, coded.tables, coded.low, coded.widths, coded.excess, special, order,
                step32, radii, near, start, escapes, values,
            )  # fmt: skip
        parts.append(values)
        start += values.size
    return parts


def raw_widths(panels: Sequence[PanelShape]) -> Bytes:
    """See `trellis.raw_widths`."""
    start, total = 0, sum(len(shifts) * ladder.columns for ladder, shifts in panels)
    widths = np.zeros(total if has_raw(panels) else 0, np.uint8)
    for ladder, shifts in panels:
        if len(widths):
            _fill_widths(ladder.first, ladder.lowest, shifts, start, widths)
        start += len(shifts) * ladder.columns
    return widths


def pop(
    decoder: Decoder, panels: Sequence[PanelShape], radii: NDArray[np.int32]
) -> tuple[Bytes, Bytes]:
    """See `trellis.pop`."""
    total = sum(len(shifts) * ladder.columns for ladder, shifts in panels)
    symbols, tables, place = np.empty(total, np.uint8), np.empty(total, np.uint8), 0
    for ladder, shifts in panels:
        rows, size = len(shifts), len(shifts) * ladder.columns
        decoder.pop_with(
            _pop, ladder.first, ladder.lowest, shifts, radii, place,
            symbols[place : place + size], tables[place : place + size], np.zeros(rows, np.uint8),
            np.empty(rows, np.uint16),
        )  # fmt: skip
        place += size
    return symbols, tables


def count_escapes(symbols: Bytes, tables: Bytes, radii: NDArray[np.int32]) -> int:
    """See `trellis.count_escapes`."""
    return int(_count_escapes(symbols, tables, radii))


@cached_by_identity
def _rebuilt(radii: NDArray[np.int32], centroids: NDArray[np.int8]) -> Floats:
    """Return float32[128, 256]: by table, the value in steps of each symbol that is no escape."""
    index = np.arange(256) - np.repeat(radii, 2)[:, None]
    size = np.abs(index)
    near = centroids.reshape(len(index), -1)
    shift = np.take_along_axis(near, np.minimum(size, 3), 1) / CENTROID_UNIT
    shift -= np.arange(len(index))[:, None] % 2 / 2
    rebuilt: Floats = (np.sign(index) * (size + shift)).astype(np.float32)
    return rebuilt


@compiled("int64(uint8[::1], uint8[::1], int32[::1])", makes_arrays=True)
def _count_escapes(symbols, tables, radii):  # type: ignore[no-untyped-def]
    edges = np.empty(256, np.uint8)
    for number in range(2 * CLASSES):
        edges[number] = np.uint8(2 * radii[number >> 1])
    found = np.int64(0)
    for i in range(len(symbols)):
        found += np.int64((symbols[i] == 0) | (symbols[i] == edges[tables[i]]))
    return found


_REBUILD = (
    "void(uint8[::1], uint8[::1], int32[::1], float32, float32[:, ::1], int64, float32[:, ::1])"
)


@compiled(_REBUILD)
def _rebuild(symbols, tables, order, step, rebuilt, start, values):  # type: ignore[no-untyped-def]
    """Set the value of each symbol of a panel as if it were no escape and had no low bits."""
    rows, columns = values.shape
    for begin in range(0, columns, _TILE):
        for row in range(rows):
            for column in range(begin, min(begin + _TILE, columns)):
                at = uint64(start + column * rows + row)
                target = np.int64(order[column]) if len(order) else column
                values[row, uint64(target)] = rebuilt[tables[at], symbols[at]] * step


@compiled("int64(uint8[::1], uint8[::1], uint8[::1], int32[::1], int32[::1])")
def _find_special(symbols, tables, widths, radii, places):  # type: ignore[no-untyped-def]
    """Find the escapes and what has low bits; tell how many these are."""
    found = np.int64(0)
    raw = len(widths) > 0
    for i in range(len(symbols)):
        edge = (symbols[i] == 0) | (symbols[i] == np.uint8(2 * radii[tables[i] >> 1]))
        if edge or (raw and widths[i] > 0):
            places[found] = np.int32(i)
            found += 1
    return found


_MEND = (
    "int64(uint8[::1], uint8[::1], int32[::1], uint8[::1], int64[::1], int32[::1], int32[::1],"
    " float32, int32[::1], int8[:, ::1], int64, int64, float32[:, ::1])"
)


@compiled(_MEND)
def _mend(  # type: ignore[no-untyped-def]
    symbols, tables, low, widths, excess, places, order, step, radii, centroids, start, escapes,
    values,
):  # fmt: skip
    """Set the values of these places of a panel; return how many escapes came up to its end."""
    rows = values.shape[0]
    unit = np.float32(1.0 / CENTROID_UNIT)
    for at in places:
        if not start <= at < start + values.size:
            continue
        table = tables[at]
        radius = np.int64(radii[table >> 1])
        index = np.int64(symbols[at]) - radius
        if abs(index) == radius:
            extra = excess[escapes]
            escapes += 1
            index += extra if index > 0 else -extra
        raw = np.int64(widths[at]) if len(widths) else np.int64(0)
        if raw:
            index = (index << raw) + low[at] - (np.int64(1) << (raw - 1))
        size = abs(index)
        shift = np.float32(centroids[table, min(size, 3)]) * unit
        shift -= np.float32(table & 1) * np.float32(0.5)
        value = (np.float32(size) + shift) * step
        value = np.float32(0.0) if index == 0 else value
        column, row = (at - start) // rows, (at - start) % rows
        target = order[column] if len(order) else column
        values[row, target] = -value if index < 0 else value
    return escapes


@compiled("void(int32[::1], int64, int32[::1], int64, uint8[::1])")
def _fill_widths(first, lowest, shifts, start, widths):  # type: ignore[no-untyped-def]
    rows = len(shifts)
    for run in range(len(first) - 1):
        for row in range(rows):
            raw = np.uint8(_RAW[min(max(lowest + run + np.int64(shifts[row]), 0), _LAST)])
            if raw:
                for column in range(first[run], first[run + 1]):
                    widths[start + column * rows + row] = raw


_POP = (
    "void(int32[::1], int64, int32[::1], int32[::1], int64, uint8[::1], uint8[::1], uint8[::1],"
    " uint16[::1], uint64[:, ::1], uint8[:, ::1], uint64[:, ::1], uint32[::1], int64[::1],"
    " int64[::1], uint64[::1])"
)
_RAW_MARK, _ODD_MARK = 128, 256  # beside a table of Q0: no state moves; the radius is odd


@inlined
def _prepare_pop(lines, lowest, shifts, radii):  # type: ignore[no-untyped-def]
    """Set what each row's symbols have in common, in columns of one level."""
    for row in range(len(shifts)):
        group = min(max(lowest + np.int64(shifts[row]), 0), _LAST)
        marks = (_RAW_MARK if group >= CLASSES else 0) + (_ODD_MARK * (radii[_CLASS[group]] & 1))
        lines[row] = np.uint16(2 * _CLASS[group] + marks)


@inlined
def _step(x, end, start, words, packed, look_up, slots, line, now):  # type: ignore[no-untyped-def]
    """Pop a row's next symbol: what its lane then has, symbol and table, and the row's state."""
    moves = line & _RAW_MARK == 0
    number = (line & 127) | ((now & 1) if moves else 0)
    x, end, symbol = popped_soon(x, end, start, words, packed, look_up, slots, number)
    after = _NEXT[2 * now + ((symbol ^ (line >> 8)) & 1)]
    return x, end, symbol, np.uint8(number), after if moves else now


@compiled(_POP)
def _pop(  # type: ignore[no-untyped-def]
    first, lowest, shifts, radii, place, symbols, tables, state, lines, packed, look_up, slots,
    words, starts, ends, lanes,
):  # fmt: skip
    rows = uint64(len(shifts))
    mask = len(lanes) - 1
    i = uint64(0)
    one, two, three, four = uint64(1), uint64(2), uint64(3), uint64(4)
    for run in range(len(first) - 1):
        _prepare_pop(lines, lowest + run, shifts, radii)
        for _ in range(first[run], first[run + 1]):
            row = uint64(0)
            while row < rows:
                lane = (uint64(place) + i) & uint64(mask)
                if lane == 0 and mask == 3 and row + four <= rows:
                    x0, x1, x2, x3 = lanes[0], lanes[1], lanes[2], lanes[3]
                    e0, e1, e2, e3 = ends[0], ends[1], ends[2], ends[3]
                    while row + four <= rows:
                        x0, e0, symbols[i], tables[i], state[row] = _step(
                            x0, e0, starts[0], words, packed, look_up, slots, lines[row],
                            state[row],
                        )  # fmt: skip
                        x1, e1, symbols[i + one], tables[i + one], state[row + one] = _step(
                            x1, e1, starts[1], words, packed, look_up, slots, lines[row + one],
                            state[row + one],
                        )  # fmt: skip
                        x2, e2, symbols[i + two], tables[i + two], state[row + two] = _step(
                            x2, e2, starts[2], words, packed, look_up, slots, lines[row + two],
                            state[row + two],
                        )  # fmt: skip
                        x3, e3, symbols[i + three], tables[i + three], state[row + three] = _step(
                            x3, e3, starts[3], words, packed, look_up, slots, lines[row + three],
                            state[row + three],
                        )  # fmt: skip
                        i += four
                        row += four
                    lanes[0], lanes[1], lanes[2], lanes[3] = x0, x1, x2, x3
                    ends[0], ends[1], ends[2], ends[3] = e0, e1, e2, e3
                else:
                    lanes[lane], ends[lane], symbols[i], tables[i], state[row] = _step(
                        lanes[lane], ends[lane], starts[lane], words, packed, look_up, slots,
                        lines[row], state[row],
                    )  # fmt: skip
                    i += one
                    row += one
