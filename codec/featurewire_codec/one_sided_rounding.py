"""One-sided samples rounded as an encoder rounds them, for whoever counts what comes out."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .backend import load_backend
from .one_sided import Contexts, Pass, passes, walk
from .one_sided_symbols import Floats, quantise
from .one_sided_tables import ALPHABET, Parameters, Tables, index_bits
from .one_sided_weights import ChannelWeights
from .quantiser import rounding_thresholds, step_size

# By the step at high rate; zeros lift what is reached by some decibels.
SNRS_DB = (0, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 26)


class Samples(NamedTuple):
    """Features float32[tokens, channels], all on one grid, and what their channels' levels are.

    offsets: int32[channels], the levels at a step of one, in quarter-octaves.
    """

    samples: Sequence[Floats]
    grid: tuple[int, int] | None
    offsets: NDArray[np.int32]


class Rounded(NamedTuple):
    """One part of a pass: its channels, in decoding order, and arrays [n, channels] of them.

    values are in steps.
    """

    channels: slice
    values: Floats
    indices: NDArray[np.int32]
    contexts: Contexts


def symbols_of(indices: NDArray[np.int32], how: Contexts) -> NDArray[np.int64]:
    """Return the symbols int64[n, channels] as they are counted: escapes as what they stand for."""
    place = (indices >> how.low_bits) - how.base
    symbols: NDArray[np.int64] = np.clip(place, 0, ALPHABET - 1).astype(np.int64)
    return symbols


def class_thresholds(tables: Tables) -> Floats:
    """Return where rounding by the tables' bits begins each index: float32[128, 4], in steps."""
    return rounding_thresholds(index_bits(tables), tables.centroids)


def round_samples(
    of: Samples,
    step_exponents: Iterable[int],
    weights: ChannelWeights,
    thresholds: Floats,
    parameters: Parameters,
    see: Callable[[Rounded], None],
) -> None:
    """Round every sample at every step, and let `see` look at each part.

    thresholds: float32[128, 4], of the tables that `weights` choose; see `class_thresholds`.
    """
    rows, columns = of.grid or (0, 0)
    for step_exponent in step_exponents:
        for sample in of.samples:
            values = sample[:, weights.order] * np.float32(1 / step_size(step_exponent))

            def fill(
                one: Pass, channels: slice, how: Contexts, values: Floats = values
            ) -> NDArray[np.int32]:
                here = values[one.tokens, channels]
                indices = quantise(here, how, thresholds)
                see(Rounded(channels, here, indices, how))
                return indices

            listed = passes(len(sample) - rows * columns, rows, columns)
            loops = load_backend().contexts
            walk(listed, of.offsets, step_exponent, weights, fill, parameters, loops)
