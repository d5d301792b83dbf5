"""Trellis-coded quantisation in numpy: what `kernels.trellis` does faster, bit for bit.

Two quantisers of the same step take turns: Q0 rebuilds multiples of the step, Q1 zero and odd
multiples of half of it. Which of them a coefficient has follows from the parities of the indices
before it in its row, by a machine of eight states; the encoder searches the path of the lowest
cost (Viterbi). Together they are as fine as half the step, at little more than the bits of one.

Each row of a panel is a path of its own, over the columns in the ladder's order; groups of 64 and
more, which send raw low bits, have Q0 and leave the state as it is. The *trellis order* is panel by
panel, column by column as the ladder has them, row by row.

Marcellin and Fischer, "Trellis coded quantization of memoryless and Gauss-Markov sources", 1990;
Schwarz et al., "Hybrid video coding with trellis-coded quantization", DCC 2019.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .entropy_model import CLASSES, GROUP_CLASS, GROUP_RAW_BITS
from .panels import CENTROID_UNIT, MAX_INDEX, Floats, PanelShape, PanelValues, too_large

STATES = 8
# The state that follows each state, after an even and after an odd magnitude. Odd states have Q1.
NEXT_STATE = np.array([[0, 1], [3, 2], [5, 4], [6, 7], [1, 0], [2, 3], [4, 5], [7, 6]], np.uint8)
# The state before each state, when the magnitude between them was even, and when it was odd.
PREVIOUS_STATE = np.argsort(NEXT_STATE, axis=0).astype(np.uint8)
# From this much beyond an index, the one below is no longer a candidate.
OVERSHOOT = 0.0625
UNREACHED = 1e30
NORMALISED_EVERY = 32  # columns: path costs stay small, so that float32 tells them apart

Bytes = NDArray[np.uint8]


class TrellisSymbols(NamedTuple):
    """The indices of a chunk in trellis order, as the entropy coder takes them.

    symbols: uint8[n], q + R, from 0 to 2R of the class; the edges are escapes.
    tables: uint8[n], 2 * class + quantiser of each.
    low: int32[n], the raw low bits of each index; empty when no group has any.
    widths: uint8[n], how many there are of each; empty likewise.
    excess: int64[escapes], how far each escaped magnitude is beyond its R.
    """

    symbols: Bytes
    tables: Bytes
    low: NDArray[np.int32]
    widths: Bytes
    excess: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrellisCosts:
    """What the search weighs: float32[64, 2, 8] for each class and quantiser.

    The first five are the worth of the bits of the magnitudes 0, 1, 2 and 3, and of each more; the
    others what rebuilding adds to a magnitude of 1, 2, and 3 or more. In squared steps, and steps.
    """

    costs: NDArray[np.float32]


def quantise(
    panels: Sequence[PanelValues], inverse_step: float, rounding: TrellisCosts, radii: Any
) -> TrellisSymbols:
    """Search the path of each row of a chunk. `radii` is int32[64].

    Raises:
        FeatureError: a coefficient is more than 2^30 steps from zero.
    """
    symbols, tables, low, excess = [], [], [], []
    for values, ladder, shifts in panels:
        scaled = ladder.in_order(values) * np.float32(inverse_step)
        size = np.abs(scaled)
        if not float(size.max(initial=0.0)) < MAX_INDEX:
            raise too_large()
        groups = ladder.groups(shifts)
        size, groups = np.ascontiguousarray(size.T), np.ascontiguousarray(groups.T)
        own = GROUP_CLASS[groups]
        radius = radii[own]
        quantisers, odd, zero, inside = _search(size, groups, rounding.costs, radii)
        magnitude = _candidate(size, quantisers, odd)
        magnitude[zero] = 0
        magnitude[~inside] = (size[~inside] + np.float32(0.5)).astype(np.int32)
        index = np.where(scaled.T < 0, -magnitude, magnitude).astype(np.int64)
        raw = GROUP_RAW_BITS[groups].astype(np.int64)
        lifted = index + ((1 << raw) >> 1)
        coarse = lifted >> raw
        beyond = np.abs(coarse) - radius
        symbols.append((np.clip(coarse, -radius, radius) + radius).astype(np.uint8).ravel())
        tables.append((2 * own + quantisers).astype(np.uint8).ravel())
        low.append((lifted - (coarse << raw)).astype(np.int32).ravel())
        excess.append(beyond[beyond >= 0].astype(np.int64))
    widths = raw_widths([(ladder, shifts) for _, ladder, shifts in panels])
    low_bits = np.concatenate(low)
    return TrellisSymbols(
        np.concatenate(symbols),
        np.concatenate(tables),
        low_bits if len(widths) else low_bits[:0],
        widths,
        np.concatenate(excess),
    )


def _search(
    size: Floats, groups: Bytes, costs: Floats, radii: NDArray[np.int32]
) -> tuple[Bytes, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return each coefficient's quantiser, whether it is odd, is zero, and is on the path.

    All are [columns, rows], as `size`, in steps, and `groups`.
    """
    columns, rows = size.shape
    total = np.full((STATES, rows), np.float32(UNREACHED))
    total[0] = 0.0
    from_odd = np.zeros((columns, STATES, rows), bool)
    zero = np.zeros((columns, 2, rows), bool)
    inside = groups < CLASSES
    for column in range(columns):
        active = inside[column]
        if not active.any():
            break
        own = np.minimum(groups[column], CLASSES - 1)
        branch = np.empty((2, 2, rows), np.float32)
        for q in (0, 1):
            branch[q, 0], zero[column, q], branch[q, 1] = _branches(
                size[column], q, costs[own, q], radii[own]
            )
        arriving = np.empty((2, STATES, rows), np.float32)
        for odd in (0, 1):
            before = PREVIOUS_STATE[:, odd]
            arriving[odd] = total[before] + branch[before & 1, odd]
        better = arriving[1] < arriving[0]
        after = np.where(better, arriving[1], arriving[0])
        if column % NORMALISED_EVERY == NORMALISED_EVERY - 1:
            after -= after.min(axis=0)
        from_odd[column] = better
        total = np.where(active, after, total)
    return _walk_back(total.argmin(axis=0), from_odd, zero, inside)


def _walk_back(
    state: NDArray[np.int64],
    from_odd: NDArray[np.bool_],
    zero: NDArray[np.bool_],
    inside: NDArray[np.bool_],
) -> tuple[Bytes, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Follow the best path of each row from its last state int[rows]; see `_search`."""
    columns, rows = inside.shape
    every = np.arange(rows)
    quantisers = np.zeros((columns, rows), np.uint8)
    odds, zeros = np.zeros((columns, rows), bool), np.zeros((columns, rows), bool)
    for column in range(columns - 1, -1, -1):
        active = inside[column]
        odd = from_odd[column, state, every] & active
        before = PREVIOUS_STATE[state, odd.astype(np.intp)].astype(np.int64)
        state = np.where(active, before, state)
        quantisers[column] = (state & 1) * active
        odds[column] = odd
        zeros[column] = ~odd & zero[column, state & 1, every] & active
    return quantisers, odds, zeros, inside


def _candidate(size: Floats, quantiser: Any, odd: Any) -> NDArray[np.int32]:
    """Return the magnitude of that parity, of the two next to a coefficient."""
    start = np.where(quantiser, np.float32(0.5 - OVERSHOOT), np.float32(-OVERSHOOT))
    below = np.maximum(size + start, np.float32(0.0)).astype(np.int32)
    return np.where(odd, below | 1, (below + 1) & -2).astype(np.int32)


def _branches(
    size: Floats, quantiser: int, costs: Floats, radius: NDArray[np.int32]
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Return the cost of the best even magnitude, whether that is zero, and of the best odd one.

    `costs` is [rows, 8]. An escape is given only magnitudes of its symbol's parity.
    """
    zero, one, two, three, slope, at_one, at_two, at_more = costs.T
    even = _candidate(size, quantiser, 0).astype(np.float32)
    odd = _candidate(size, quantiser, 1).astype(np.float32)
    third = np.float32(3.0)
    error = size - (even + np.where(even == 2, at_two, at_more))
    cost = error * error + np.where(even == 2, two, slope * (even - third) + three)
    cost = np.where((even > radius) & (radius & 1 == 1), np.float32(UNREACHED), cost)
    nothing = size * size + zero
    is_zero = (even == 0) | (nothing <= cost)
    error = size - (odd + np.where(odd == 1, at_one, at_more))
    odd_cost = error * error + np.where(odd == 1, one, slope * (odd - third) + three)
    odd_cost = np.where((odd > radius) & (radius & 1 == 0), np.float32(UNREACHED), odd_cost)
    return np.where(is_zero, nothing, cost), is_zero, odd_cost


def dequantise(
    coded: TrellisSymbols,
    panels: Sequence[PanelShape],
    step: float,
    radii: NDArray[np.int32],
    centroids: NDArray[np.int8],
) -> list[Floats]:
    """Undo `quantise`: the values float32[rows, columns] of each panel, columns as they were.

    A value is sign(k) (|k| - Q/2 + centroid[class, Q, min(|k|, 3)] / 256) step, zero for k = 0.
    """
    index = to_indices(coded, radii)
    magnitude = np.abs(index)
    near = centroids.reshape(-1, centroids.shape[-1])[coded.tables, np.minimum(magnitude, 3)]
    shift = near.astype(np.float32) * np.float32(1.0 / CENTROID_UNIT)
    shift -= (coded.tables & 1).astype(np.float32) * np.float32(0.5)
    rebuilt = (magnitude.astype(np.float32) + shift) * np.float32(step)
    rebuilt = np.where(index == 0, np.float32(0.0), rebuilt * np.sign(index).astype(np.float32))
    parts, start = [], 0
    for ladder, shifts in panels:
        rows, end = len(shifts), start + len(shifts) * ladder.columns
        in_order = rebuilt[start:end].reshape(ladder.columns, rows).T
        values = np.empty((rows, ladder.columns), np.float32)
        values[:, ladder.order if len(ladder.order) else slice(None)] = in_order
        parts.append(values)
        start = end
    return parts


def to_indices(coded: TrellisSymbols, radii: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the indices int64[n] in trellis order."""
    radius = radii[coded.tables >> 1].astype(np.int64)
    coarse = coded.symbols.astype(np.int64) - radius
    escaped = np.abs(coarse) == radius
    coarse[escaped] += np.sign(coarse[escaped]) * coded.excess
    if not len(coded.widths):
        return np.asarray(coarse)
    raw = coded.widths.astype(np.int64)
    index: NDArray[np.int64] = (coarse << raw) + coded.low - ((1 << raw) >> 1)
    return index


def raw_widths(panels: Sequence[PanelShape]) -> Bytes:
    """Return how many raw low bits each coefficient has, in trellis order; empty when none has."""
    if not has_raw(panels):
        return np.zeros(0, np.uint8)
    parts = [GROUP_RAW_BITS[ladder.groups(shifts)].T.ravel() for ladder, shifts in panels]
    widths: Bytes = np.concatenate(parts)
    return widths


def has_raw(panels: Sequence[PanelShape]) -> bool:
    """Tell whether a coefficient has raw low bits."""
    return any(
        ladder.lowest + len(ladder.first) - 2 + int(shifts.max(initial=0)) >= CLASSES
        for ladder, shifts in panels
        if len(shifts)
    )


def pop(
    decoder: Any, panels: Sequence[PanelShape], radii: NDArray[np.int32]
) -> tuple[Bytes, Bytes]:
    """Pop a chunk's symbols from an `entropy_coder.Decoder`: uint8[n] each, and their tables."""
    total = sum(len(shifts) * ladder.columns for ladder, shifts in panels)
    symbols, tables, place = np.empty(total, np.uint8), np.empty(total, np.uint8), 0
    for ladder, shifts in panels:
        groups = np.ascontiguousarray(ladder.groups(shifts).T)
        state = np.zeros(len(shifts), np.uint8)
        for column in groups:
            inside, own = column < CLASSES, GROUP_CLASS[column]
            end = place + len(column)
            tables[place:end] = 2 * own + (state & 1) * inside
            symbols[place:end] = decoder.pop_each(tables[place:end], place)
            odd = np.abs(symbols[place:end] - radii[own]) & 1
            state = np.where(inside, NEXT_STATE[state, odd], state)
            place = end
    return symbols, tables


def count_escapes(symbols: Bytes, tables: Bytes, radii: NDArray[np.int32]) -> int:
    """Count the symbols at the edges of their classes' alphabets."""
    return int(((symbols == 0) | (symbols == 2 * radii[tables >> 1])).sum())
