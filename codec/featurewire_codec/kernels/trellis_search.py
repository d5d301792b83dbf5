"""The search through a trellis, compiled: see `trellis.quantise`.

Eight rows are searched side by side, so that the machine's vectors hold them.
"""

import numpy as np
from numba import uint64

from ..entropy_model import CLASSES, GROUP_CLASS, GROUP_RAW_BITS, GROUPS
from ..panels import MAX_INDEX
from ..trellis import NORMALISED_EVERY, OVERSHOOT, PREVIOUS_STATE, STATES, UNREACHED
from .compiled import compiled, inlined

_CLASS = GROUP_CLASS.astype(np.int64)
_RAW = GROUP_RAW_BITS.astype(np.int64)
_LAST = GROUPS - 1
_SIDE = 8  # rows side by side; what a row needs is _SIDE apart in the arrays below
_COSTS = 8  # for each quantiser, and after both of them two limits
_TOTALS = (2 * _COSTS + 2) * _SIDE
_SEEN = 2 * _COSTS * _SIDE
_PREVIOUS = PREVIOUS_STATE.ravel()
# What was chosen: which quantiser, an odd magnitude, zero instead of an even one; or that the
# coefficient has raw bits and is beyond the path's end.
_QUANTISER, _ODD, _ZERO, _OUTSIDE = 1, 2, 4, 8


@inlined
def _best(work, row):  # type: ignore[no-untyped-def]
    """Return the state whose path costs least, the first of equals."""
    best = 0
    for state in range(1, STATES):
        if work[_TOTALS + state * _SIDE + row] < work[_TOTALS + best * _SIDE + row]:
            best = state
    return best


@inlined
def _even(below):  # type: ignore[no-untyped-def]
    """Return the even one of a magnitude and the next, without leaving 32 bits."""
    return np.float32(np.int32(np.int32(below + np.int32(1)) & np.int32(-2)))


@inlined
def _odd(below):  # type: ignore[no-untyped-def]
    """Return the odd one."""
    return np.float32(np.int32(below | np.int32(1)))


@inlined
def _set(taken, bit, is_set):  # type: ignore[no-untyped-def]
    """Set a bit of a decision."""
    return np.int32(taken | (np.int32(bit) if is_set else np.int32(0)))


@compiled("void(float32[::1], uint16[::1], float32[::1], int64, int64, int64)")
def _search(scaled, decisions, work, first, last, rows):  # type: ignore[no-untyped-def]
    """Take the paths of up to eight rows over some columns of equal costs."""
    far, third = np.float32(UNREACHED), np.float32(3.0)
    none, half = np.float32(-OVERSHOOT), np.float32(0.5 - OVERSHOOT)
    side, totals = np.int64(_SIDE), np.int64(_TOTALS)
    for column in range(first, last):
        at = uint64(column * side)  # unsigned: numba would look for negative indices
        for row in range(rows):
            size = abs(scaled[at + uint64(row)])
            even_limit, odd_limit = work[_SEEN + row], work[_SEEN + side + row]
            # Q0
            below = np.int32(max(size + none, np.float32(0.0)))
            even, odd = _even(below), _odd(below)
            two, one = even == np.float32(2.0), odd == np.float32(1.0)
            slope = work[4 * side + row]
            three, more = work[3 * side + row], work[7 * side + row]
            error = size - (even + (work[6 * side + row] if two else more))
            cost = error * error + (work[2 * side + row] if two else slope * (even - third) + three)
            cost = far if even > even_limit else cost
            nothing = size * size + work[row]
            zero0 = (even == np.float32(0.0)) | (nothing <= cost)
            even0 = nothing if zero0 else cost
            error = size - (odd + (work[5 * side + row] if one else more))
            cost = error * error + (work[side + row] if one else slope * (odd - third) + three)
            odd0 = far if odd > odd_limit else cost
            # Q1
            below = np.int32(max(size + half, np.float32(0.0)))
            even, odd = _even(below), _odd(below)
            two, one = even == np.float32(2.0), odd == np.float32(1.0)
            slope = work[12 * side + row]
            three, more = work[11 * side + row], work[15 * side + row]
            error = size - (even + (work[14 * side + row] if two else more))
            cost = error * error + (
                work[10 * side + row] if two else slope * (even - third) + three
            )
            cost = far if even > even_limit else cost
            nothing = size * size + work[8 * side + row]
            zero1 = (even == np.float32(0.0)) | (nothing <= cost)
            even1 = nothing if zero1 else cost
            error = size - (odd + (work[13 * side + row] if one else more))
            cost = error * error + (work[9 * side + row] if one else slope * (odd - third) + three)
            odd1 = far if odd > odd_limit else cost
            # NEXT_STATE, unrolled: into each state lead an even and an odd magnitude
            place = totals + row
            j0, j4 = work[place], work[place + 4 * side]
            j1, j5 = work[place + side], work[place + 5 * side]
            j2, j6 = work[place + 2 * side], work[place + 6 * side]
            j3, j7 = work[place + 3 * side], work[place + 7 * side]
            a0, b0 = j0 + even0, j4 + odd0
            a1, b1 = j4 + even0, j0 + odd0
            a2, b2 = j5 + even1, j1 + odd1
            a3, b3 = j1 + even1, j5 + odd1
            a4, b4 = j6 + even0, j2 + odd0
            a5, b5 = j2 + even0, j6 + odd0
            a6, b6 = j3 + even1, j7 + odd1
            a7, b7 = j7 + even1, j3 + odd1
            work[place] = b0 if b0 < a0 else a0
            work[place + side] = b1 if b1 < a1 else a1
            work[place + 2 * side] = b2 if b2 < a2 else a2
            work[place + 3 * side] = b3 if b3 < a3 else a3
            work[place + 4 * side] = b4 if b4 < a4 else a4
            work[place + 5 * side] = b5 if b5 < a5 else a5
            work[place + 6 * side] = b6 if b6 < a6 else a6
            work[place + 7 * side] = b7 if b7 < a7 else a7
            taken = np.int32(0)
            taken = _set(taken, 1, b0 < a0)
            taken = _set(taken, 2, b1 < a1)
            taken = _set(taken, 4, b2 < a2)
            taken = _set(taken, 8, b3 < a3)
            taken = _set(taken, 16, b4 < a4)
            taken = _set(taken, 32, b5 < a5)
            taken = _set(taken, 64, b6 < a6)
            taken = _set(taken, 128, b7 < a7)
            taken = _set(taken, 256, zero0)
            taken = _set(taken, 512, zero1)
            decisions[at + uint64(row)] = np.uint16(taken)
        if column % NORMALISED_EVERY == NORMALISED_EVERY - 1:
            for row in range(rows):
                least = work[totals + row]
                for state in range(1, STATES):
                    least = min(least, work[totals + state * side + row])
                for state in range(STATES):
                    work[totals + state * side + row] -= least


@inlined
def _prepare(work, costs, radii, lowest, rows):  # type: ignore[no-untyped-def]
    """Set the costs of each row's class, from the level of the columns to come."""
    for row in range(rows):
        own = lowest[row]
        for q in range(2):
            for number in range(_COSTS):
                work[(q * _COSTS + number) * _SIDE + row] = costs[own, q, number]
        radius = radii[own]
        never = np.float32(UNREACHED)
        work[_SEEN + row] = np.float32(radius) if radius & 1 else never
        work[_SEEN + _SIDE + row] = never if radius & 1 else np.float32(radius)


@compiled("void(uint16[::1], int64[::1], int64[::1], int64, int64)")
def _walk_back(decisions, state, ends, columns, rows):  # type: ignore[no-untyped-def]
    """Follow the paths from their last states; replace each decision by what was chosen."""
    for column in range(columns - 1, -1, -1):
        for row in range(rows):
            at = uint64(column * _SIDE + row)
            if column < ends[row]:
                taken, now = np.int64(decisions[at]), state[row]
                odd = (taken >> now) & 1
                now = np.int64(_PREVIOUS[uint64(2 * now + odd)])
                zero = (taken >> (8 + (now & 1))) & (1 - odd)
                decisions[at] = np.uint16((now & _QUANTISER) + odd * _ODD + zero * _ZERO)
                state[row] = now
            else:
                decisions[at] = np.uint16(_OUTSIDE)


@inlined
def _magnitude(size, choice):  # type: ignore[no-untyped-def]
    """Return the magnitude that a choice makes of a coefficient, in 32 bits."""
    shift = np.float32(0.5 - OVERSHOOT) if choice & _QUANTISER else np.float32(-OVERSHOOT)
    shift = np.float32(0.5) if choice & _OUTSIDE else shift
    below = np.int32(max(size + shift, np.float32(0.0)))
    odd, even = (
        np.int32(below | np.int32(1)),
        np.int32(np.int32(below + np.int32(1)) & np.int32(-2)),
    )
    index = odd if choice & _ODD else even
    index = below if choice & _OUTSIDE else index
    return np.int32(0) if choice & _ZERO else index


_CHOOSE = (
    "int64(float32[::1], uint16[::1], int64, int64, int64[::1], int32[::1], int64, int64, int64,"
    " uint8[::1], uint8[::1], int32[::1], int64[::1], int64[::1], int64)"
)


@compiled(_CHOOSE)
def _choose(  # type: ignore[no-untyped-def]
    scaled, choices, first, last, groups, radius, start, side, rows, symbols, tables, low,
    escape_place, excess, escapes,
):  # fmt: skip
    """Set the symbols of up to eight rows in some columns of one level, from what was chosen.

    In a column they are from `start` on; from one column to the next it is `side`.
    """
    raw = False
    for row in range(rows):
        raw |= groups[row] >= CLASSES
    for column in range(first, last):
        at, place = uint64(column * _SIDE), uint64(start + column * side)
        beyond = False
        for row in range(rows):
            value, choice = scaled[at + uint64(row)], np.int32(choices[at + uint64(row)])
            index = _magnitude(abs(value), choice)
            beyond |= index >= radius[row]
            index = min(index, radius[row])
            index = np.int32(radius[row] + (index if value >= np.float32(0.0) else -index))
            symbols[place + uint64(row)] = np.uint8(index)
            table = np.int32(2 * _CLASS[groups[row]])
            tables[place + uint64(row)] = np.uint8(table + (choice & _QUANTISER))
        if not (beyond or raw):
            continue
        for row in range(rows):
            value, choice = scaled[at + uint64(row)], np.int32(choices[at + uint64(row)])
            index = np.int64(_magnitude(abs(value), choice))
            index = -index if value < 0 else index
            shift, limit = _RAW[groups[row]], np.int64(radius[row])
            if shift:
                lifted = index + (np.int64(1) << (shift - 1))
                index = lifted >> shift
                low[place + uint64(row)] = lifted - (index << shift)
            if abs(index) >= limit:
                escape_place[escapes] = place + uint64(row)
                excess[escapes] = abs(index) - limit
                escapes += 1
                index = limit if index > 0 else -limit
            symbols[place + uint64(row)] = np.uint8(index + limit)
    return escapes


_QUANTISE = (
    "int64(float32[:, ::1], int32[::1], int32[::1], int64, int32[::1], float32,"
    " float32[:, :, ::1], int32[::1], int64, uint8[::1], uint8[::1], int32[::1], int64[::1],"
    " int64[::1], int64)"
)


@compiled(_QUANTISE, makes_arrays=True)
def search(  # type: ignore[no-untyped-def]
    values, order, first, lowest, shifts, inverse_step, costs, radii, start, symbols, tables, low,
    escape_place, excess, escapes,
):  # fmt: skip
    rows, columns = values.shape
    runs = len(first) - 1
    scaled = np.empty(columns * _SIDE, np.float32)
    decisions = np.empty(columns * _SIDE, np.uint16)
    work = np.empty(_TOTALS + STATES * _SIDE, np.float32)
    groups, classes = np.empty(_SIDE, np.int64), np.empty(_SIDE, np.int64)
    radius = np.empty(_SIDE, np.int32)
    ends, state = np.empty(_SIDE, np.int64), np.empty(_SIDE, np.int64)
    for begin in range(0, rows, _SIDE):
        count = min(_SIDE, rows - begin)
        fits = True
        for row in range(count):
            for column in range(columns):
                source = np.int64(order[uint64(column)]) if len(order) else column
                value = values[uint64(begin + row), uint64(source)] * inverse_step
                scaled[uint64(column * _SIDE + row)] = value
                fits &= abs(value) < np.float32(MAX_INDEX)  # nor does a NaN
            ends[row] = -1
            for s in range(STATES):
                work[_TOTALS + s * _SIDE + row] = np.float32(UNREACHED)
            work[_TOTALS + row] = np.float32(0.0)
        if not fits:
            return np.int64(-1)
        for run in range(runs):
            left = 0
            for row in range(count):
                group = min(max(lowest + run + shifts[begin + row], 0), _LAST)
                if group < CLASSES:
                    left += 1
                elif ends[row] < 0:
                    ends[row] = first[run]
                    state[row] = _best(work, row)
                classes[row] = min(group, CLASSES - 1)
            if left == 0:
                break
            if first[run + 1] > first[run]:
                _prepare(work, costs, radii, classes, count)
                _search(scaled, decisions, work, first[run], first[run + 1], count)
        for row in range(count):
            if ends[row] < 0:
                ends[row] = columns
                state[row] = _best(work, row)
        _walk_back(decisions, state, ends, columns, count)
        for run in range(runs):
            if first[run + 1] > first[run]:
                for row in range(count):
                    groups[row] = min(max(lowest + run + shifts[begin + row], 0), _LAST)
                    radius[row] = radii[_CLASS[groups[row]]]
                escapes = _choose(
                    scaled, decisions, first[run], first[run + 1], groups, radius, start + begin,
                    rows, count, symbols, tables, low, escape_place, excess, escapes,
                )  # fmt: skip
    return escapes
