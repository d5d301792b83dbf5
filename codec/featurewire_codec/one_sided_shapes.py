"""Which of two shapes each channel's misses have: what codes it in the fewest bits.

Two features of one mean and one expected error can still differ: one dense about its mean, the
other mostly zero and now and then large. So each channel takes one of two sets of cells. Training
finds the sets as k-means finds clusters, by code lengths; calibration finds each channel's, and
with it whether its gain should rather be smaller or larger.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .backend import load_backend
from .one_sided import Contexts, Pass, walk
from .one_sided_fit import Floats, Grid, quantise_sample
from .one_sided_symbols import LENGTH_BITS
from .one_sided_tables import (
    ALPHABET,
    CLASSES,
    ERRORS,
    PREDICTIONS,
    SHAPES,
    ZEROS,
    Parameters,
    Tables,
)
from .one_sided_weights import MAX_GAIN, ChannelWeights
from .tables import FREQUENCY_SUM

SHAPE_SNRS_DB = (5.0, 12.0, 20.0)  # at which code lengths are compared
_FACTORS = (1.0, 0.7, 0.5, 1.4)  # of the gains
_ROUNDS = 3
_PRIOR = 200.0  # symbols of a cell at which one shape's counts say as much as all together
_CELLS = ZEROS * PREDICTIONS * ERRORS
Numbers = NDArray[np.float64]


class Seen(NamedTuple):
    """What was counted of a source: channel, cell 0 .. 8191, symbol, and how often, each [n]."""

    channels: NDArray[np.int64]
    cells: NDArray[np.int64]
    symbols: NDArray[np.int64]
    counts: NDArray[np.int64]


def choose_shapes(
    samples: Sequence[Floats],
    grid: Grid,
    offsets: NDArray[np.int32],
    step_exponents: Sequence[int],
    weights: ChannelWeights,
    parameters: Parameters,
    tables: Tables,
) -> ChannelWeights:
    """Return the weights with each channel's best shape, its gains times the best factor.

    samples: float32[tokens, channels], all on `grid`; offsets int32[channels] are their levels,
    step_exponents those of the SNRs at which bits are counted.
    """
    lengths = _code_lengths(tables)
    least = np.full(len(offsets), np.inf)
    shape, gain = weights.shape.copy(), weights.gain.copy()
    for number, factor in itertools.product(range(SHAPES), _FACTORS):
        gains = np.clip(np.rint(weights.gain * factor), 1, MAX_GAIN).astype(np.int32)
        trial = replace(weights, shape=np.full_like(shape, number), gain=gains)
        bits = np.zeros(len(offsets))
        for sample, step_exponent in itertools.product(samples, step_exponents):
            bits += _channel_bits(sample, grid, offsets, step_exponent, trial, parameters, lengths)
        better = bits < least
        least[better], shape[better] = bits[better], number
        gain[:, better] = gains[:, better]
    return replace(weights, shape=shape, gain=gain)


def _channel_bits(
    sample: Floats,
    grid: Grid,
    offsets: NDArray[np.int32],
    step_exponent: int,
    weights: ChannelWeights,
    parameters: Parameters,
    lengths: Numbers,
) -> Numbers:
    """Return what each channel of a sample costs, float64[channels] in decoding order."""
    ordered, levels = sample[:, weights.order], offsets[weights.order]
    true, listed, _ = quantise_sample(ordered, grid, levels, step_exponent, parameters)
    bits = np.zeros(len(offsets))

    def fill(one: Pass, channels: slice, how: Contexts) -> NDArray[np.int32]:
        here = true[one.tokens, channels]
        symbols = np.clip((here >> how.low_bits) - how.base, 0, ALPHABET - 1)
        bits[channels] += lengths[how.classes, symbols].sum(axis=0)
        bits[channels] += how.low_bits.sum(axis=0, dtype=np.int64)
        return here

    walk(listed, offsets, step_exponent, weights, fill, parameters, load_backend().contexts)
    return bits


def _code_lengths(tables: Tables) -> Numbers:
    """Return the bits of each class's symbols, escapes included: float64[128, 128]."""
    lengths = np.empty((CLASSES, ALPHABET))
    for own, frequencies in zip(lengths, tables.classes, strict=True):
        radius = len(frequencies) - 1
        own[:radius] = np.log2(FREQUENCY_SUM / frequencies[:radius])
        excess = np.arange(ALPHABET - radius)
        escape = np.log2(FREQUENCY_SUM / frequencies[radius]) + LENGTH_BITS
        own[radius:] = escape + np.floor(np.log2(excess + 1))
    return lengths


def divide_shapes(
    seen: Sequence[Seen], shares: Sequence[int], peakedness: Sequence[Numbers]
) -> list[NDArray[np.uint8]]:
    """Divide the channels of all sources by shape: uint8[channels] for each.

    shares: how often each source counts. peakedness: of each channel, where to begin from.
    """
    middle = np.quantile(np.concatenate(peakedness), np.arange(1, SHAPES) / SHAPES)
    shapes = [np.searchsorted(middle, each).astype(np.uint8) for each in peakedness]
    for _ in range(_ROUNDS):
        counts = count_cells(seen, shares, shapes).reshape(SHAPES, _CELLS, ALPHABET)
        pooled = counts.sum(axis=0) + 1e-3
        likely = counts + _PRIOR * pooled / pooled.sum(axis=1, keepdims=True)
        bits = np.log2(likely.sum(axis=2, keepdims=True) / likely)
        shapes = [_costs(each, bits).argmin(axis=0).astype(np.uint8) for each in seen]
    return shapes


def _costs(seen: Seen, bits: Numbers) -> Numbers:
    """Return what each channel costs in each shape, float64[2, channels]."""
    spent = [seen.counts * own[seen.cells, seen.symbols] for own in bits]
    return np.stack([np.bincount(seen.channels, each) for each in spent])


def count_cells(
    seen: Sequence[Seen], shares: Sequence[int], shapes: Sequence[NDArray[np.uint8]]
) -> NDArray[np.int64]:
    """Count all sources' symbols by shape and cell: int64[2 * 8192, 128]."""
    counts = np.zeros((SHAPES * _CELLS, ALPHABET), np.int64)
    for one, share, shape in zip(seen, shares, shapes, strict=True):
        places = (shape[one.channels] * np.int64(_CELLS) + one.cells) * ALPHABET + one.symbols
        weighed = np.bincount(places, one.counts, counts.size)
        counts.ravel()[:] += share * weighed.astype(np.int64)
    return counts
