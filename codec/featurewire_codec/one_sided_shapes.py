"""Which shape each channel's misses have, and which tables suit: what takes the fewest bits.

Two features of one mean and one expected error can still differ: one dense about its mean, the
other mostly zero and now and then large. So each channel takes one of two sets of cells. Training
finds the sets as k-means finds clusters, by code lengths; calibration finds each channel's, and
with it whether its gain should rather be smaller or larger. Then it chooses each class's mixture
of frozen tables (see `one_sided_mixture`).
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .one_sided_mixture import best_mixture, symbol_bits
from .one_sided_rounding import Rounded, Samples, class_thresholds, round_samples, symbols_of
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
    of: Samples,
    step_exponents: Sequence[int],
    weights: ChannelWeights,
    parameters: Parameters,
    tables: Tables,
) -> ChannelWeights:
    """Return the weights with each channel's best shape, its gains times the best factor.

    Bits are counted at the given steps, those of `SHAPE_SNRS_DB`.
    """
    lengths, thresholds = symbol_bits(tables), class_thresholds(tables)
    least = np.full(len(of.offsets), np.inf)
    shape, gain = weights.shape.copy(), weights.gain.copy()
    for number, factor in itertools.product(range(SHAPES), _FACTORS):
        gains = np.clip(np.rint(weights.gain * factor), 1, MAX_GAIN).astype(np.int32)
        trial = replace(weights, shape=np.full_like(shape, number), gain=gains)
        bits = np.zeros(len(of.offsets))

        def add(part: Rounded, bits: Numbers = bits) -> None:
            spent = (
                lengths[part.contexts.classes, symbols_of(part.indices, part.contexts)]
                + part.contexts.low_bits
            )
            bits[part.channels] += spent.sum(axis=0)

        round_samples(of, step_exponents, trial, thresholds, parameters, add)
        better = bits < least
        least[better], shape[better] = bits[better], number
        gain[:, better] = gains[:, better]
    return replace(weights, shape=shape, gain=gain)


def choose_mixture(
    of: Samples,
    step_exponents: Sequence[int],
    weights: ChannelWeights,
    parameters: Parameters,
    tables: Tables,
) -> ChannelWeights:
    """Return the weights with the mixture of tables that takes the fewest bits in each class.

    Bits are counted at the given steps, those of `SNRS_DB`.
    """
    counts = np.zeros((CLASSES, ALPHABET), np.int64)

    def add(part: Rounded) -> None:
        symbols = symbols_of(part.indices, part.contexts)
        places = (part.contexts.classes * np.int64(ALPHABET) + symbols).ravel()
        counts.ravel()[:] += np.bincount(places, minlength=counts.size)

    round_samples(of, step_exponents, weights, class_thresholds(tables), parameters, add)
    return replace(weights, mixture=best_mixture(counts, tables))


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
