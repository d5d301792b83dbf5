"""`one_sided` and `one_sided_symbols`, compiled: the same integers and floats, faster."""

import numpy as np
from numpy.typing import NDArray

from ..one_sided import (
    CHANNEL_BITS,
    HIGH,
    LARGEST,
    MAX_CONTEXT,
    MAX_RATIO,
    MAX_RAW_BITS,
    RATIO_BITS,
    RAW_ERROR,
    UNIT,
    WEIGHT_BITS,
    Contexts,
    Ints,
    Pass,
    Prediction,
    level_tables,
)
from ..one_sided_symbols import Floats, Symbols, out_of_range
from ..one_sided_tables import Parameters
from ..one_sided_weights import ChannelWeights
from ..panels import CENTROID_UNIT, MAX_INDEX
from .compiled import compiled

_HIGHEST = (HIGH + 1) * UNIT - 1
_NO_LOW = np.zeros(0, np.int32)


def predict(
    indices: NDArray[np.int32],
    one: Pass,
    mean: Ints,
    parameters: Parameters,
    value_weights: NDArray[np.int32],
) -> Prediction:
    """See `one_sided.predict`."""
    shape = len(one.tokens), indices.shape[1]
    value, error = np.empty(shape, np.int64), np.empty(shape, np.int64)
    found = Prediction(value, error, np.empty(shape, np.uint8))
    _predict(
        indices, one.near, one.kind > 0, mean, value_weights[one.kind], parameters.error[one.kind],
        *found,
    )  # fmt: skip
    return found


def refined_contexts(
    prediction: Prediction,
    one: Pass,
    decoded: NDArray[np.int32],
    group: int,
    weights: ChannelWeights,
    parameters: Parameters,
) -> Contexts:
    """See `one_sided.refined_contexts`."""
    start, end = weights.bounds[group], weights.bounds[group + 1]
    shape = len(one.tokens), end - start
    classes, low_bits = np.empty(shape, np.uint8), np.empty(shape, np.uint8)
    found = Contexts(classes, low_bits, np.empty(shape, np.int32))
    matrix = weights.matrix_by_source[one.kind]
    _contexts(
        *prediction, decoded, start, matrix, weights.gain[one.kind], weights.shape,
        parameters.refined[one.kind], *level_tables(parameters), parameters.classes, *found,
    )  # fmt: skip
    return found


def quantise_part(
    values: Floats,
    how: Contexts,
    thresholds: Floats,
    radii: NDArray[np.int32],
    centroids: NDArray[np.int8],
) -> tuple[NDArray[np.int32], Floats, Symbols]:
    """See `one_sided_symbols.quantise_part`."""
    indices, rebuilt = np.empty(values.shape, np.int32), np.empty(values.shape, np.float32)
    symbols, low = np.empty(values.size, np.uint8), np.empty(values.size, np.int32)
    excess = np.empty(values.size, np.int64)
    escapes = _quantise(
        values, *how, thresholds, radii, centroids, indices, rebuilt, symbols, low, excess
    )
    return indices, rebuilt, Symbols(symbols, low, excess[:escapes])


def count_escapes(symbols: NDArray[np.uint8], how: Contexts, radii: NDArray[np.int32]) -> int:
    """See `one_sided_symbols.count_escapes`."""
    return int(_count_escapes(symbols, how.classes, how.base, radii))


def rebuild_part(
    coded: Symbols, how: Contexts, radii: NDArray[np.int32], centroids: NDArray[np.int8]
) -> tuple[NDArray[np.int32], Floats]:
    """See `one_sided_symbols.rebuild_part`."""
    shape = how.classes.shape
    indices, rebuilt = np.empty(shape, np.int32), np.empty(shape, np.float32)
    if not _rebuild(*coded, *how, radii, centroids, indices, rebuilt):
        raise out_of_range()
    return indices, rebuilt


_PREDICT = (
    "void(int32[:, ::1], int32[:, ::1], boolean, int64[::1], int32[:, ::1], int32[::1],"
    " int64[:, ::1], int64[:, ::1], uint8[:, ::1])"
)


@compiled(_PREDICT)
def _predict(indices, near, known, mean, weights, spreading, value, error, zeros):  # type: ignore[no-untyped-def]
    e, f, g, h, i = spreading[0], spreading[1], spreading[2], spreading[3], spreading[4]
    own = len(weights) > 1
    for token in range(len(value)):
        p, q, r, s = near[token, 0], near[token, 1], near[token, 2], near[token, 3]
        count = np.int64(p >= 0) + np.int64(q >= 0) + np.int64(r >= 0) + np.int64(s >= 0)
        inverse = np.int64(65536) // count if count else np.int64(0)
        # where a neighbour is missing, the first row is read instead, and not used
        at_p, at_q = indices[max(p, 0)], indices[max(q, 0)]
        at_r, at_s = indices[max(r, 0)], indices[max(s, 0)]
        for c in range(value.shape[1]):
            m = mean[c]
            w = weights[c if own else 0]
            first = second = smooth = m
            spread = lines = many = np.int64(0)
            if known:
                na = UNIT * np.int64(min(at_p[c], MAX_CONTEXT))
                nb = UNIT * np.int64(min(at_q[c], MAX_CONTEXT))
                nc = UNIT * np.int64(min(at_r[c], MAX_CONTEXT))
                nd = UNIT * np.int64(min(at_s[c], MAX_CONTEXT))
                na = na if p >= 0 else np.int64(0)
                nb = nb if q >= 0 else np.int64(0)
                nc = nc if r >= 0 else np.int64(0)
                nd = nd if s >= 0 else np.int64(0)
                many = np.int64(p >= 0 and na == 0) + np.int64(q >= 0 and nb == 0)
                many += np.int64(r >= 0 and nc == 0) + np.int64(s >= 0 and nd == 0)
                average = ((na + nb + nc + nd) * inverse) >> 16 if count else m
                na = na if p >= 0 else average
                nb = nb if q >= 0 else average
                nc = nc if r >= 0 else average
                nd = nd if s >= 0 else average
                first, second = (na + nb) >> 1, (nc + nd) >> 1
                change, other = abs(na - nb), abs(nc - nd)
                smooth = (second + average) >> 1 if change > 2 * other else average
                smooth = (first + average) >> 1 if other > 2 * change else smooth
                spread = (
                    abs(na - average) + abs(nb - average) + abs(nc - average) + abs(nd - average)
                ) >> 2
                lines = abs(first - second)
            v = (w[0] * first + w[1] * second + w[2] * smooth + w[3] * m) >> WEIGHT_BITS
            v = min(max(v, -LARGEST), LARGEST)
            value[token, c] = v
            due = e * spread + f * lines + g * max(v, 0) + h * UNIT + i * m
            error[token, c] = max(due >> WEIGHT_BITS, 0)
            zeros[token, c] = 1 + (many > 0) + (many == count) if count else 0


_CONTEXTS = (
    "void(int64[:, ::1], int64[:, ::1], uint8[:, ::1], int32[:, ::1], int64, float32[:, ::1],"
    " int32[::1], uint8[::1], int32[::1], uint8[::1], uint8[::1], uint8[:, :, :, ::1],"
    " uint8[:, ::1], uint8[:, ::1], int32[:, ::1])"
)


@compiled(_CONTEXTS, makes_arrays=True)
def _contexts(  # type: ignore[no-untyped-def]
    value, error, zeros, decoded, start, matrix, gain, shapes, mixing, levels, spreads, cells,
    classes, low_bits, base,
):  # fmt: skip
    size = classes.shape[1]
    a, b, c, d = mixing[0], mixing[1], mixing[2], mixing[3]
    moved = np.zeros(size)
    for token in range(len(value)):
        ratio = np.int64(1) << RATIO_BITS
        if start:
            moved[:] = 0.0
            total, due = np.int64(0), np.int64(0)
            for k in range(start):
                missed = UNIT * np.int64(min(decoded[token, k], MAX_CONTEXT)) - value[token, k]
                total += abs(missed)
                due += error[token, k]
                if missed:
                    # whole numbers below 2^53: exact, in any order
                    m, line = np.float64(missed), matrix[k]
                    for j in range(size):
                        moved[j] += m * np.float64(line[start + j])
            ratio = ((total + UNIT) << RATIO_BITS) // (due + UNIT)
            ratio = min(ratio, np.int64(MAX_RATIO))
        for j in range(size):
            v = value[token, start + j] + (np.int64(moved[j]) >> CHANNEL_BITS)
            v = max(min(v, LARGEST), 0)
            expected = (error[token, start + j] * gain[start + j]) >> RATIO_BITS
            lively = (expected * ratio) >> RATIO_BITS
            mixed = (a * expected + b * lively + c * v + d * UNIT) >> WEIGHT_BITS
            mixed = max(mixed, 0)
            low = 0
            if mixed >= RAW_ERROR:
                octaves = mixed // RAW_ERROR
                while octaves and low < MAX_RAW_BITS:
                    octaves >>= 1
                    low += 1
                v, mixed = v >> low, mixed >> low
            low_bits[token, j] = low
            base[token, j] = max(v // UNIT - HIGH, 0)
            level, spread = levels[min(v, _HIGHEST)], spreads[min(mixed, RAW_ERROR - 1)]
            classes[token, j] = cells[shapes[start + j], zeros[token, start + j], level, spread]


_QUANTISE = (
    "int64(float32[:, :], uint8[:, ::1], uint8[:, ::1], int32[:, ::1], float32[:, ::1],"
    " int32[::1], int8[:, ::1], int32[:, ::1], float32[:, ::1], uint8[::1], int32[::1],"
    " int64[::1])"
)


@compiled(_QUANTISE)
def _quantise(  # type: ignore[no-untyped-def]
    values, classes, low_bits, base, thresholds, radii, centroids, indices, rebuilt, symbols, low,
    excess,
):  # fmt: skip
    escapes, n = 0, 0
    unit = np.float32(1.0 / CENTROID_UNIT)
    for token in range(len(values)):
        for j in range(values.shape[1]):
            own = classes[token, j]
            size = min(max(values[token, j], np.float32(0.0)), np.float32(MAX_INDEX))
            level = thresholds[own]
            if size < np.float32(3.0):
                index = np.int32(size >= level[0]) + np.int32(size >= level[1])
                index += np.int32(size >= level[2])
            else:
                index = np.int32(size + level[3])
            indices[token, j] = index
            rebuilt[token, j] = np.float32(index) + np.float32(centroids[own, min(index, 3)]) * unit
            coarse, radius = index >> low_bits[token, j], radii[own]
            place = coarse - base[token, j]
            low[n] = index - (coarse << low_bits[token, j])
            if place >= radius:
                excess[escapes] = place - radius
                escapes += 1
                place = radius
            elif place <= 0 and base[token, j] > 0:
                excess[escapes] = -place
                escapes += 1
                place = np.int32(0)
            symbols[n] = place
            n += 1
    return escapes


@compiled("int64(uint8[::1], uint8[:, ::1], int32[:, ::1], int32[::1])")
def _count_escapes(symbols, classes, base, radii):  # type: ignore[no-untyped-def]
    found, n = 0, 0
    for token in range(len(classes)):
        for j in range(classes.shape[1]):
            symbol = symbols[n]
            found += (symbol == radii[classes[token, j]]) | ((symbol == 0) & (base[token, j] > 0))
            n += 1
    return found


_REBUILD = (
    "boolean(uint8[::1], int32[::1], int64[::1], uint8[:, ::1], uint8[:, ::1], int32[:, ::1],"
    " int32[::1], int8[:, ::1], int32[:, ::1], float32[:, ::1])"
)


@compiled(_REBUILD)
def _rebuild(  # type: ignore[no-untyped-def]
    symbols, low, excess, classes, low_bits, base, radii, centroids, indices, rebuilt
):
    escapes, n = 0, 0
    unit = np.float32(1.0 / CENTROID_UNIT)
    for token in range(len(classes)):
        for j in range(classes.shape[1]):
            own, from_ = classes[token, j], np.int64(base[token, j])
            place = np.int64(symbols[n])
            if place == radii[own]:
                place += excess[escapes]
                escapes += 1
            elif place == 0 and from_ > 0:
                place -= excess[escapes]
                escapes += 1
            index = ((place + from_) << low_bits[token, j]) + low[n]
            if place + from_ < 0 or index > MAX_INDEX:
                return False
            indices[token, j] = index
            near = np.float32(centroids[own, min(index, 3)])
            rebuilt[token, j] = np.float32(index) + near * unit
            n += 1
    return True
