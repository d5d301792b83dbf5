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
    raw_widths,
)
from .ans import COARSE_BITS, Decoder, popped
from .compiled import compiled, inlined
from .trellis_search import search

_CLASS = GROUP_CLASS.astype(np.int64)
_RAW = GROUP_RAW_BITS.astype(np.int64)
_LAST = GROUPS - 1
_NEXT = NEXT_STATE.ravel()
_NO_LOW = np.zeros(0, np.int32)
_SIDE = 8  # rows at a time: their lines stay in the cache


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
    rebuilt = _rebuilt(radii, centroids)
    parts, start, escapes = [], 0, 0
    for ladder, shifts in panels:
        values = np.empty((len(shifts), ladder.columns), np.float32)
        escapes = _dequantise(
            coded.symbols, coded.tables, coded.low, coded.widths, coded.excess, ladder.order,
            np.float32(step), radii, centroids.reshape(-1, centroids.shape[-1]), rebuilt, start,
            escapes, values,
        )  # fmt: skip
        parts.append(values)
        start += values.size
    return parts


def pop(
    decoder: Decoder, panels: Sequence[PanelShape], radii: NDArray[np.int32]
) -> tuple[Bytes, Bytes]:
    """See `trellis.pop`."""
    total = sum(len(shifts) * ladder.columns for ladder, shifts in panels)
    symbols, tables, place = np.empty(total, np.uint8), np.empty(total, np.uint8), 0
    for ladder, shifts in panels:
        size = len(shifts) * ladder.columns
        decoder.pop_with(
            _pop, ladder.first, ladder.lowest, shifts, radii, place,
            symbols[place : place + size], tables[place : place + size],
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


_DEQUANTISE = (
    "int64(uint8[::1], uint8[::1], int32[::1], uint8[::1], int64[::1], int32[::1], float32,"
    " int32[::1], int8[:, ::1], float32[:, ::1], int64, int64, float32[:, ::1])"
)


@compiled(_DEQUANTISE, makes_arrays=True)
def _dequantise(  # type: ignore[no-untyped-def]
    symbols, tables, low, widths, excess, order, step, radii, centroids, rebuilt, start, escapes,
    values,
):  # fmt: skip
    rows, columns = values.shape
    unit = np.float32(1.0 / CENTROID_UNIT)
    edges = np.empty(256, np.uint8)
    for number in range(2 * CLASSES):
        edges[number] = np.uint8(2 * radii[number >> 1])
    found = False
    for begin in range(0, rows, _SIDE):
        end = min(begin + _SIDE, rows)
        for column in range(columns):
            target = order[column] if len(order) else column
            at = start + column * rows
            for row in range(begin, end):
                symbol, table = symbols[at + row], tables[at + row]
                found |= (symbol == 0) | (symbol == edges[table])
                values[row, target] = rebuilt[table, symbol] * step
    if not found and len(widths) == 0:
        return escapes
    for column in range(columns):
        target = order[column] if len(order) else column
        at = start + column * rows
        for row in range(rows):
            symbol, table = symbols[at + row], tables[at + row]
            raw = np.int64(widths[at + row]) if len(widths) else np.int64(0)
            if raw == 0 and symbol != 0 and symbol != edges[table]:
                continue
            radius = np.int64(radii[table >> 1])
            index = np.int64(symbol) - radius
            if abs(index) == radius:
                extra = excess[escapes]
                escapes += 1
                index += extra if index > 0 else -extra
            if raw:
                index = (index << raw) + low[at + row] - (np.int64(1) << (raw - 1))
            size = abs(index)
            shift = np.float32(centroids[table, min(size, 3)]) * unit
            shift -= np.float32(table & 1) * np.float32(0.5)
            value = (np.float32(size) + shift) * step
            value = np.float32(0.0) if index == 0 else value
            values[row, target] = -value if index < 0 else value
    return escapes


_POP = (
    "void(int32[::1], int64, int32[::1], int32[::1], int64, uint8[::1], uint8[::1],"
    " uint64[:, ::1], uint8[:, ::1], uint32[::1], int64[::1], int64[::1], uint64[::1])"
)
_RAW_MARK, _ODD_MARK = 128, 256  # beside a table of Q0: no state moves; the radius is odd


@inlined
def _prepare_pop(lines, lowest, shifts, radii):  # type: ignore[no-untyped-def]
    """Set what each row's symbols have in common, in columns of one level."""
    for row in range(len(shifts)):
        group = min(max(lowest + np.int64(shifts[row]), 0), _LAST)
        marks = (_RAW_MARK if group >= CLASSES else 0) + (_ODD_MARK * (radii[_CLASS[group]] & 1))
        lines[row] = np.uint16(2 * _CLASS[group] + marks)


@compiled(_POP, makes_arrays=True)
def _pop(  # type: ignore[no-untyped-def]
    first, lowest, shifts, radii, place, symbols, tables, packed, look_up, words, starts, ends,
    lanes,
):  # fmt: skip
    rows = len(shifts)
    state, lines = np.zeros(rows, np.uint8), np.empty(rows, np.uint16)
    mask = len(lanes) - 1
    i = 0
    for run in range(len(first) - 1):
        _prepare_pop(lines, lowest + run, shifts, radii)
        for _ in range(first[run], first[run + 1]):
            for row in range(rows):
                lane = (place + i) & mask
                line, now = lines[row], state[row]
                moves = line & _RAW_MARK == 0
                number = (line & 127) | ((now & 1) if moves else 0)
                x = lanes[lane]
                symbol = look_up[number, (x & uint64(0xFFFFFF)) >> uint64(COARSE_BITS)]
                lanes[lane], ends[lane] = popped(
                    x, ends[lane], starts[lane], words, packed[number, symbol]
                )
                symbols[i], tables[i] = symbol, np.uint8(number)
                after = _NEXT[2 * now + ((symbol ^ (line >> 8)) & 1)]
                state[row] = after if moves else now
                i += 1
