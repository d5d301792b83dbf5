"""`panels`, compiled: the same integers and floats, many times faster."""

from collections.abc import Sequence

import numpy as np
from numba import uint64
from numpy.typing import NDArray

from ..entropy_model import CLASSES, GROUP_CLASS, GROUP_RAW_BITS, GROUPS, Ladder
from ..identity_cache import cached_by_identity
from ..panels import CENTROID_UNIT, MAX_INDEX, Floats, PanelShape, PanelValues, Symbols, too_large
from .compiled import compiled, inlined

_CLASS = GROUP_CLASS.astype(np.int64)
_RAW = GROUP_RAW_BITS.astype(np.int64)
_LAST = GROUPS - 1
_NO_ESCAPES = np.zeros(GROUPS, np.int64)
_BLOCK = 32  # coefficients at a time: the machine's vectors hold them


def activity(values: Floats, ladder: Ladder, inverse: Floats, weight: Floats) -> NDArray[np.int64]:
    """See `panels.activity`."""
    total = np.empty(len(values), np.int64)
    _activity(values, ladder.order, inverse, weight, total)
    return total


def rough_bits(values: Floats, scale: float) -> int:
    """See `panels.rough_bits`."""
    return int(_rough_bits(values, np.float32(scale)))


def quantise(
    panels: Sequence[PanelValues],
    inverse_step: float,
    thresholds: Floats,
    radii: NDArray[np.int32],
) -> Symbols:
    """See `panels.quantise`."""
    counts = counts_of([(ladder, shifts) for _, ladder, shifts in panels])
    total = sum(values.size for values, _, _ in panels)
    place = np.empty(GROUPS, np.int64)
    low = np.empty(total - _places(counts, place), np.int32)
    symbols, escape_place = np.empty(total, np.uint8), np.empty(total, np.int64)
    excess = np.empty(total, np.int64)
    escapes = 0
    for values, ladder, shifts in panels:
        escapes = _quantise(
            values, ladder.order, ladder.first, ladder.lowest, shifts, np.float32(inverse_step),
            thresholds, radii, place, symbols, low, escape_place, excess, escapes,
        )  # fmt: skip
        if escapes < 0:
            raise too_large()
    excess = excess[:escapes]
    if escapes > 1:  # they were met row by row
        excess = excess[np.argsort(escape_place[:escapes])]
    return Symbols(symbols, counts, low, excess)


def counts_of(panels: Sequence[PanelShape]) -> NDArray[np.int64]:
    """See `panels.counts_of`."""
    counts = np.zeros(GROUPS, np.int64)
    for ladder, shifts in panels:
        _count(ladder.first, ladder.lowest, ladder.columns, shifts, counts)
    return counts


def raw_widths(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """See `panels.raw_widths`."""
    widths = np.empty(_raw_total(counts), np.uint8)
    if len(widths):
        _raw_widths(counts, widths)
    return widths


def count_escapes(
    symbols: NDArray[np.uint8], counts: NDArray[np.int64], radii: NDArray[np.int32]
) -> int:
    """See `panels.count_escapes`."""
    return int(_count_escapes(symbols, counts, radii))


def dequantise(
    coded: Symbols,
    panels: Sequence[PanelShape],
    step: float,
    radii: NDArray[np.int32],
    centroids: NDArray[np.int8],
) -> list[Floats]:
    """See `panels.dequantise`."""
    place = np.empty(GROUPS, np.int64)
    _places(coded.counts, place)
    escape = escape_ends = _NO_ESCAPES
    if len(coded.excess):
        escape, escape_ends = np.empty((2, GROUPS), np.int64)
        _escape_places(coded.symbols, coded.counts, radii, escape, escape_ends)
    rebuilt = _rebuilt(radii, centroids)
    parts = []
    for ladder, shifts in panels:
        values = np.empty((len(shifts), ladder.columns), np.float32)
        _dequantise(
            coded.symbols, coded.low, coded.excess, ladder.order, ladder.first, ladder.lowest,
            shifts, np.float32(step), radii, centroids, rebuilt, place, escape, escape_ends, values,
        )  # fmt: skip
        parts.append(values)
    return parts


@cached_by_identity
def _rebuilt(radii: NDArray[np.int32], centroids: NDArray[np.int8]) -> Floats:
    """Return float32[64, 256]: the value in steps of each symbol that is no escape."""
    index = np.arange(256) - radii[:, None]
    size = np.abs(index)
    near = np.take_along_axis(centroids, np.minimum(size, 3), 1)
    rebuilt: Floats = (np.sign(index) * (size + near / CENTROID_UNIT)).astype(np.float32)
    return rebuilt


@inlined
def _bound(place, first, columns):  # type: ignore[no-untyped-def]
    """Return the first place of a ladder whose offset is at least lowest + `place`."""
    if place <= 0:
        return 0
    if place >= len(first):
        return columns
    return np.int64(first[place])


@compiled("void(float32[:, ::1], int32[::1], float32[::1], float32[::1], int64[::1])")
def _activity(values, order, inverse, weight, total):  # type: ignore[no-untyped-def]
    rows, columns = values.shape
    giant = np.float32(16.0)
    for row in range(rows):
        line = values[row]
        acc = np.int64(0)
        if len(order):
            for column in range(columns):
                ratio = min(abs(line[order[column]]) * inverse[column], giant)
                acc += np.int32(ratio * weight[column])
        else:
            for column in range(columns):
                ratio = min(abs(line[column]) * inverse[column], giant)
                acc += np.int32(ratio * weight[column])
        total[row] = acc


@compiled("int64(float32[::1], float32)")
def _rough_bits(values, scale):  # type: ignore[no-untyped-def]
    acc = np.int64(0)
    one = np.float32(1.0)
    for i in range(len(values)):
        acc += np.int64(np.float32(abs(values[i]) * scale + one).view(np.int32)) - np.int64(
            127 << 23
        )
    return acc


@compiled("void(int32[::1], int64, int64, int32[::1], int64[::1])")
def _count(first, lowest, columns, shifts, counts):  # type: ignore[no-untyped-def]
    highest = lowest + len(first) - 2
    for row in range(len(shifts)):
        shift = np.int64(shifts[row])
        bottom = min(max(lowest + shift, 0), _LAST)
        top = min(max(highest + shift, 0), _LAST)
        start = np.int64(0)
        for group in range(bottom, top + 1):
            end = columns
            if group < top:
                end = _bound(group + 1 - shift - lowest, first, columns)
            counts[group] += end - start
            start = end


@compiled("int64(int64[::1])")
def _raw_total(counts):  # type: ignore[no-untyped-def]
    total = np.int64(0)
    for group in range(CLASSES, GROUPS):
        total += counts[group]
    return total


@compiled("void(int64[::1], uint8[::1])")
def _raw_widths(counts, widths):  # type: ignore[no-untyped-def]
    start = np.int64(0)
    for group in range(CLASSES, GROUPS):
        for i in range(start, start + counts[group]):
            widths[i] = np.uint8(_RAW[group])
        start += counts[group]


@compiled("int64(int64[::1], int64[::1])")
def _places(counts, place):  # type: ignore[no-untyped-def]
    """Set where each group begins; tell how many coefficients come before those with raw bits."""
    place[0] = 0
    for group in range(1, GROUPS):
        place[group] = place[group - 1] + counts[group - 1]
    return place[CLASSES]


_QUANTISE = (
    "int64(float32[:, ::1], int32[::1], int32[::1], int64, int32[::1], float32, float32[:, ::1],"
    " int32[::1], int64[::1], uint8[::1], int32[::1], int64[::1], int64[::1], int64)"
)


@compiled(_QUANTISE, makes_arrays=True)
def _quantise(  # type: ignore[no-untyped-def]
    values, order, first, lowest, shifts, inverse_step, thresholds, radii,
    place, symbols, low, escape_place, excess, escapes,
):  # fmt: skip
    columns = values.shape[1]
    highest = lowest + len(first) - 2
    none, single, three = np.float32(0.0), np.float32(1.0), np.float32(3.0)
    # A row in coding order, and a block more: the last block of a group may go beyond the row.
    line = np.zeros(columns + _BLOCK, np.float32)
    plain = len(symbols) - len(low)  # so many have no low bits: they come first
    block = np.empty(_BLOCK, np.uint8)
    for row in range(len(shifts)):
        for column in range(columns):
            line[column] = values[row, order[column] if len(order) else column]
        shift = np.int64(shifts[row])
        bottom = min(max(lowest + shift, 0), _LAST)
        top = min(max(highest + shift, 0), _LAST)
        start = np.int64(0)
        for group in range(bottom, top + 1):
            end = columns
            if group < top:
                end = _bound(group + 1 - shift - lowest, first, columns)
            own, raw = _CLASS[group], _RAW[group]
            one, two, more = thresholds[own, 0], thresholds[own, 1], thresholds[own, 2]
            cut, radius = thresholds[own, 3], np.int32(radii[own])
            last = np.float32(radius)
            at = place[group] - start
            beyond = False
            for begin in range(start, end, _BLOCK):
                source = line[begin : begin + _BLOCK]
                for i in range(_BLOCK):
                    value = source[i] * inverse_step
                    size = abs(value)
                    small = (single if size >= one else none) + (single if size >= two else none)
                    small += single if size >= more else none
                    index = small if size < three else size + cut  # a NaN is not small
                    fits = index < last
                    beyond |= not fits
                    whole = np.int32(index if fits else last)
                    block[i] = np.uint8(radius + (whole if value >= none else -whole))
                out = symbols[at + begin : at + min(begin + _BLOCK, end)]
                for i in range(len(out)):
                    out[i] = block[i]
            if raw or beyond:
                half = (np.int64(1) << raw) >> 1
                for i in range(start, end):
                    value = line[i] * inverse_step
                    size = abs(value)
                    if not size < np.float32(MAX_INDEX):
                        return np.int64(-1)
                    full = np.int64(size + cut)
                    if size < three:
                        full = np.int64(np.int64(size >= one) + (size >= two) + (size >= more))
                    full = full if value >= 0 else -full
                    lifted = full + half
                    full = lifted >> raw
                    if raw:
                        low[at + i - plain] = lifted - (full << raw)
                    excess_now = abs(full) - radius
                    if excess_now >= 0:
                        escape_place[escapes] = at + i
                        excess[escapes] = excess_now
                        escapes += 1
                        full = np.int64(radius if full > 0 else -radius)
                    symbols[at + i] = np.uint8(full + radius)
            place[group] += end - start
            start = end
    return escapes


@inlined
def _edges(symbols, start, end, edge):  # type: ignore[no-untyped-def]
    """Count a group's symbols at the edges of its alphabet."""
    found = np.int64(0)
    for begin in range(start, end, 128):
        here = np.uint8(0)  # so narrow that the machine's vectors hold many
        for i in range(begin, min(begin + 128, end)):
            symbol = symbols[uint64(i)]
            here = np.uint8(here + np.uint8((symbol == 0) | (symbol == edge)))
        found += here
    return found


@compiled("int64(uint8[::1], int64[::1], int32[::1])")
def _count_escapes(symbols, counts, radii):  # type: ignore[no-untyped-def]
    found = start = np.int64(0)
    for group in range(GROUPS):
        end = start + counts[group]
        found += _edges(symbols, start, end, np.uint8(2 * radii[_CLASS[group]]))
        start = end
    return found


@compiled("void(uint8[::1], int64[::1], int32[::1], int64[::1], int64[::1])")
def _escape_places(symbols, counts, radii, starts, ends):  # type: ignore[no-untyped-def]
    """Find which escapes are those of each group."""
    found = start = np.int64(0)
    for group in range(GROUPS):
        end = start + counts[group]
        starts[group] = found
        found += _edges(symbols, start, end, np.uint8(2 * radii[_CLASS[group]]))
        ends[group] = found
        start = end


_DEQUANTISE = (
    "void(uint8[::1], int32[::1], int64[::1], int32[::1], int32[::1], int64, int32[::1], float32,"
    " int32[::1], int8[:, ::1], float32[:, ::1], int64[::1], int64[::1], int64[::1],"
    " float32[:, ::1])"
)


@compiled(_DEQUANTISE)
def _dequantise(  # type: ignore[no-untyped-def]
    symbols, low, excess, order, first, lowest, shifts, step, radii, centroids, rebuilt,
    place, escape, escape_ends, values,
):  # fmt: skip
    columns = values.shape[1]
    highest = lowest + len(first) - 2
    gathered = len(order) > 0
    unit = np.float32(1.0 / 256)
    plain = len(symbols) - len(low)  # so many have no low bits: they come first
    for row in range(len(shifts)):
        shift = np.int64(shifts[row])
        bottom = min(max(lowest + shift, 0), _LAST)
        top = min(max(highest + shift, 0), _LAST)
        start = np.int64(0)
        for group in range(bottom, top + 1):
            end = columns
            if group < top:
                end = _bound(group + 1 - shift - lowest, first, columns)
            own, raw = _CLASS[group], _RAW[group]
            at = place[group] - start
            # Unsigned indices: numba would have to look for negative ones.
            for i in range(start, end):
                column = np.int64(order[uint64(i)]) if gathered else i
                values[row, uint64(column)] = rebuilt[own, symbols[uint64(at + i)]] * step
            if raw or escape[group] < escape_ends[group]:
                radius = np.int64(radii[own])
                half = (np.int64(1) << raw) >> 1
                for i in range(start, end):
                    index = np.int64(symbols[at + i]) - radius
                    if abs(index) == radius:
                        extra = excess[escape[group]]
                        escape[group] += 1
                        index += extra if index > 0 else -extra
                    elif raw == 0:
                        continue
                    if raw:
                        index = (index << raw) + low[at + i - plain] - half
                    size = abs(index)
                    value = (
                        np.float32(size) + np.float32(centroids[own, min(size, 3)]) * unit
                    ) * step
                    value = np.float32(0.0) if index == 0 else value
                    column = np.int64(order[i]) if gathered else i
                    values[row, column] = -value if index < 0 else value
            place[group] += end - start
            start = end
