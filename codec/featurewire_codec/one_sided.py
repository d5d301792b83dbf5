"""One-sided features on a grid: indices decoded so far in, the class of each next index out.

What leaves a ReLU is never below zero, often exactly zero, and smooth over the grid. So its indices
are coded as they are, in passes over ever finer grids: first every eighth place both ways, then the
places amid four known ones, each time halving the distance. For each index the known neighbours
give a prediction and its expected error, both in sixty-fourths of a step; their *cell* names one of
128 frozen tables, another one for each of two shapes that a channel's misses may have. The channels
come in groups, and a group is also predicted from how far the earlier groups of the same place
missed, with weights of the profile.

Everything here is integers, the same on any machine: products fit float64's 53 bits, so the matrix
product of the channel weights is exact too. The encoder repeats what the decoder does.

Wu and Memon, "Context-based, adaptive, lossless image coding" (CALIC), 1997, for the idea of
prediction and error energy as contexts; the passes are those of interlaced image coding.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .one_sided_tables import Parameters
from .one_sided_weights import ChannelWeights

UNIT_BITS = 6
UNIT = 1 << UNIT_BITS  # predictions and errors are in sixty-fourths of a step
UNIT_LEVEL = 48  # the offset at which a channel's mean is one step, as in the entropy model
COARSEST = 8  # the first pass takes every eighth place
MAX_CONTEXT = 1 << 20  # larger indices count as this in contexts
LARGEST = MAX_CONTEXT * UNIT
MAX_RAW_BITS = 24
RAW_ERROR = 6 * UNIT  # from this expected error on, low bits are sent raw
HIGH = 48  # a prediction from here on is taken off the index, but for these steps
_INVERSE = np.array([0, 65536, 32768, 21845, 16384], np.int64)  # 2^16 / count
WEIGHT_BITS, CHANNEL_BITS, RATIO_BITS = 10, 12, 8
MAX_RATIO = 8 << RATIO_BITS

Ints = NDArray[np.int64]
_DIAGONAL = ((-1, -1), (1, 1), (-1, 1), (1, -1))
_DIRECT = ((-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True, eq=False)
class Pass:
    """The tokens int32[n] of a pass, and the known neighbours of each.

    kind: which of the frozen weights predict; 0 has no neighbours. near int32[n, 4]: tokens on two
    lines through each, one on either side, -1 where the span has none.
    """

    kind: int
    tokens: NDArray[np.int32]
    near: NDArray[np.int32]


def passes(prefix: int, rows: int, columns: int) -> list[Pass]:
    """List the passes over a span: `prefix` tokens, then whole rows of a grid in raster order.

    Every token is in one pass; the neighbours of a pass are all in earlier ones.
    """
    y, x = np.divmod(np.arange(rows * columns, dtype=np.int32), np.int32(columns))
    listed = [Pass(0, np.arange(prefix, dtype=np.int32), _no_neighbours(prefix))]
    first = np.flatnonzero((y % COARSEST == 0) & (x % COARSEST == 0)).astype(np.int32)
    listed.append(Pass(0, first + np.int32(prefix), _no_neighbours(len(first))))
    kind, spacing = 1, COARSEST
    while spacing > 1:
        half = spacing // 2
        odd_row, odd_column = y % spacing == half, x % spacing == half
        even_row, even_column = y % spacing == 0, x % spacing == 0
        amid = odd_row & odd_column
        between = (odd_row & even_column) | (even_row & odd_column)
        for places, directions in ((amid, _DIAGONAL), (between, _DIRECT)):
            tokens = np.flatnonzero(places).astype(np.int32)
            near = np.full((len(tokens), 4), -1, np.int32)
            for side, (down, right) in enumerate(directions):
                there_y, there_x = y[tokens] + down * half, x[tokens] + right * half
                inside = (there_y >= 0) & (there_y < rows) & (there_x >= 0) & (there_x < columns)
                place = there_y * columns + there_x + prefix
                near[:, side] = np.where(inside, place, -1)
            listed.append(Pass(kind, tokens + np.int32(prefix), near))
            kind += 1
        spacing = half
    return [one for one in listed if len(one.tokens)]


def _no_neighbours(tokens: int) -> NDArray[np.int32]:
    return np.full((tokens, 4), -1, np.int32)


def expected(offsets: NDArray[np.int32], step_exponent: int, parameters: Parameters) -> Ints:
    """Return each channel's mean index in sixty-fourths of a step, int64[channels].

    `offsets` int32[channels] are the channels' levels at a step of one, in quarter-octaves.
    """
    parts = 8 * (offsets.astype(np.int64) - UNIT_LEVEL) - step_exponent  # of 1/32 octave
    octaves = np.clip(parts >> 5, -20, 20)
    mantissa = parameters.octave[parts & 31].astype(np.int64)  # 2^(i/32), 2^16 is one
    up = octaves - (16 - UNIT_BITS)
    result: Ints = np.where(up > 0, mantissa << np.maximum(up, 0), mantissa >> np.maximum(-up, 0))
    return np.minimum(result, LARGEST)


def zeros_nearby(indices: NDArray[np.int32], one: Pass) -> NDArray[np.uint8]:
    """Return for each index of a pass, uint8[n, channels], what its known neighbours are.

    0: there is none; 1: none of them is zero; 2: some are; 3: all are.
    """
    known = one.near >= 0
    zero = (indices[np.maximum(one.near, 0)] == 0) & known[:, :, None]
    many, count = zero.sum(axis=1), known.sum(axis=1)[:, None]
    found = 1 + (many > 0).astype(np.uint8) + (many == count)
    return np.where(count > 0, found, 0).astype(np.uint8)


def features(indices: NDArray[np.int32], one: Pass, mean: Ints) -> tuple[Ints, ...]:
    """Return what a pass's indices are predicted from, each int64[n, channels] in 1/64 step.

    The neighbours' averages on the one line and on the other; their average along the line that
    changes less; the channel's mean. Then, for the expected error, how far the neighbours lie from
    their average, and the two lines' averages from each other.
    """
    shape = len(one.tokens), indices.shape[1]
    if one.kind == 0:
        zero = np.zeros(shape, np.int64)
        mean = np.broadcast_to(mean, shape)
        return mean, mean, mean, mean, zero, zero
    known = one.near >= 0
    near = np.minimum(indices[np.maximum(one.near, 0)], MAX_CONTEXT).astype(np.int64)
    near = near * (UNIT * known[:, :, None])
    count = known.sum(axis=1)
    average = (near.sum(axis=1) * _INVERSE[count][:, None]) >> 16
    if not count.all():
        average = np.where(count[:, None] > 0, average, mean)
    near = np.where(known[:, :, None], near, average[:, None])
    a, b, c, d = (near[:, side] for side in range(4))
    first, second = (a + b) >> 1, (c + d) >> 1
    change, other = np.abs(a - b), np.abs(c - d)
    smooth = np.where(change > 2 * other, (second + average) >> 1, average)
    smooth = np.where(other > 2 * change, (first + average) >> 1, smooth)
    spread = np.abs(near - average[:, None]).sum(axis=1) >> 2
    return first, second, smooth, np.broadcast_to(mean, shape), spread, np.abs(first - second)


class Prediction(NamedTuple):
    """What the neighbours say of a pass.

    A value and its expected error, int64[n, channels], and what `zeros_nearby` returns.
    """

    value: Ints
    error: Ints
    zeros: NDArray[np.uint8]


def predict(
    indices: NDArray[np.int32],
    one: Pass,
    mean: Ints,
    parameters: Parameters,
    value_weights: NDArray[np.int32],
) -> Prediction:
    """Predict a pass from its neighbours; `indices` int32[tokens, channels] has earlier passes.

    `mean` is what `expected` returns, `value_weights` int32[7, 1 or channels, 4] the frozen weights
    or a profile's; the channels in one order. In sixty-fourths of a step.
    """
    first, second, smooth, mean, spread, lines = features(indices, one, mean)
    a, b, c, d = value_weights[one.kind].T.astype(np.int64)
    value = (a * first + b * second + c * smooth + d * mean) >> WEIGHT_BITS
    value = np.clip(value, -LARGEST, LARGEST)
    e, f, g, h, i = parameters.error[one.kind].tolist()
    positive = np.maximum(value, 0)
    error = (e * spread + f * lines + g * positive + h * UNIT + i * mean) >> WEIGHT_BITS
    return Prediction(value, np.maximum(error, 0), zeros_nearby(indices, one))


def refinement(
    prediction: Prediction,
    one: Pass,
    decoded: NDArray[np.int32],
    group: int,
    weights: ChannelWeights,
) -> tuple[Ints, Ints, Ints]:
    """Return what `refine` makes its prediction of.

    The value with the earlier groups' misses; the expected error with their help; and the latter
    once more, as much larger as those misses were larger than expected.
    """
    start, end = weights.bounds[group], weights.bounds[group + 1]
    value, error = prediction.value[:, start:end], prediction.error[:, start:end]
    error = (error * weights.gain[one.kind, start:end]) >> RATIO_BITS
    if start == 0:
        return value, error, error
    known = np.minimum(decoded[:, :start], MAX_CONTEXT).astype(np.int64) * UNIT
    missed = known - prediction.value[:, :start]
    matrix = weights.matrix[one.kind, start:end, :start].astype(np.float64)
    moved = (missed.astype(np.float64) @ matrix.T).astype(np.int64)
    total = (np.abs(missed).sum(axis=1) + UNIT) << RATIO_BITS
    ratio = total // (prediction.error[:, :start].sum(axis=1) + UNIT)
    ratio = np.minimum(ratio, MAX_RATIO)[:, None]
    value = np.clip(value + (moved >> CHANNEL_BITS), -LARGEST, LARGEST)
    return value, error, (error * ratio) >> RATIO_BITS


def refine(
    prediction: Prediction,
    one: Pass,
    decoded: NDArray[np.int32],
    group: int,
    weights: ChannelWeights,
    parameters: Parameters,
) -> Prediction:
    """Predict one group of channels also from the groups before it in the same places.

    `decoded` int32[n, channels] holds this pass's indices, the channels in decoding order; from
    the group's first one on it is not read. `prediction` is of all channels in that order.
    """
    value, error, lively = refinement(prediction, one, decoded, group, weights)
    a, b, c, d = parameters.refined[one.kind].tolist()
    mixed = a * error + b * lively + c * np.maximum(value, 0) + d * UNIT
    zeros = prediction.zeros[:, weights.bounds[group] : weights.bounds[group + 1]]
    return Prediction(value, np.maximum(mixed >> WEIGHT_BITS, 0), zeros)


class Contexts(NamedTuple):
    """How each index of a pass is coded, in arrays of one shape.

    An index k has the symbol s = (k >> low_bits) - base of the table classes; its low bits are sent
    raw. Below 0, or where base > 0 at 0, and from the class's radius on, s escapes.
    """

    classes: NDArray[np.uint8]
    low_bits: NDArray[np.uint8]
    base: NDArray[np.int32]


def contexts(prediction: Prediction, shapes: NDArray[np.uint8], parameters: Parameters) -> Contexts:
    """Return the classes of what is so predicted; `shapes` uint8[channels] are the weights'."""
    value, error = np.maximum(prediction.value, 0), prediction.error
    low_bits = np.zeros(error.shape, np.int64)
    if error.max(initial=0) >= RAW_ERROR:
        octaves = np.frexp((error // RAW_ERROR).astype(np.float64))[1]
        low_bits = np.minimum(octaves, MAX_RAW_BITS).astype(np.int64)
        value, error = value >> low_bits, error >> low_bits
    base = np.maximum(value // UNIT - HIGH, 0)
    places = np.minimum(value, (HIGH + 1) * UNIT - 1)
    levels, errors = level_tables(parameters)
    spreads = errors[np.minimum(error, RAW_ERROR - 1)]
    cells = parameters.classes[shapes, prediction.zeros, levels[places], spreads]
    return Contexts(cells, low_bits.astype(np.uint8), base.astype(np.int32))


@functools.lru_cache(maxsize=4)
def level_tables(parameters: Parameters) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the level of each prediction 0 .. 3135, and of each expected error 0 .. 383."""
    places = np.searchsorted(parameters.value_bounds, np.arange((HIGH + 1) * UNIT), "right")
    spreads = np.searchsorted(parameters.error_bounds, np.arange(RAW_ERROR), "right")
    return places.astype(np.uint8), spreads.astype(np.uint8)


def refined_contexts(
    prediction: Prediction,
    one: Pass,
    decoded: NDArray[np.int32],
    group: int,
    weights: ChannelWeights,
    parameters: Parameters,
) -> Contexts:
    """Return the contexts of one group of channels; see `refine`."""
    refined = refine(prediction, one, decoded, group, weights, parameters)
    shapes = weights.shape[weights.bounds[group] : weights.bounds[group + 1]]
    return contexts(refined, shapes, parameters)


Fill = Callable[[Pass, slice, Contexts], NDArray[np.int32]]


def walk(
    listed: Sequence[Pass],
    offsets: NDArray[np.int32],
    step_exponent: int,
    weights: ChannelWeights,
    fill: Fill,
    parameters: Parameters,
    loops: ModuleType,
) -> NDArray[np.int32]:
    """Go through a span as encoder and decoder both must; return its indices [tokens, channels].

    `fill(one, channels, contexts)` supplies the indices int32[n, m] of each part in turn: the
    encoder's rounds its values, the decoder's takes symbols from the stream. Here and in what is
    returned the channels are in decoding order. `loops` is this module, or its compiled twin.
    """
    mean = expected(offsets, step_exponent, parameters)[weights.order]
    tokens = sum(len(one.tokens) for one in listed)
    indices = np.zeros((tokens, len(offsets)), np.int32)
    for one in listed:
        prediction = loops.predict(indices, one, mean, parameters, weights.value)
        decoded = np.zeros((len(one.tokens), len(offsets)), np.int32)
        for group, (start, end) in enumerate(pairwise(weights.bounds)):
            part = loops.refined_contexts(prediction, one, decoded, group, weights, parameters)
            decoded[:, start:end] = fill(one, slice(start, end), part)
        indices[one.tokens] = decoded
    return indices
