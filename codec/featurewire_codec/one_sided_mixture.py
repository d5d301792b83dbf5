"""A profile's tables of the one-sided mode: for each class a mixture of two of the frozen ones.

Features unlike those of training, as those without a grid are, fill the classes otherwise. The
frozen tables span enough kinds of distribution for mixtures to come close to tables of one's own,
of which a profile then need not keep the frequencies.
"""

import numpy as np
from numpy.typing import NDArray

from .one_sided_tables import ALPHABET, CLASSES, LENGTH_BITS, Tables
from .tables import FREQUENCY_SUM

SHARES = 8  # of two tables together; the second one has fewer than all
_LEAST_SAVED = 32.0  # bits, below which a class keeps its own table
Numbers = NDArray[np.float64]


def own_mixture() -> NDArray[np.uint8]:
    """Return the mixture uint8[128, 3] that leaves each class its own table."""
    return np.stack([np.arange(CLASSES), np.arange(CLASSES), np.zeros(CLASSES)], 1).astype(np.uint8)


def mix_tables(tables: Tables, mixture: NDArray[np.uint8]) -> Tables:
    """Mix the tables of the classes: deterministic, integers only.

    A class keeps its own centroids: where in a step values lie follows from what is predicted, and
    that is its cells' own.

    mixture uint8[128, 3]: by class, the first table, the second one, and its share in eighths.
    """
    first, second, share = mixture.astype(np.int64).T
    radii = np.maximum(tables.radii[first], tables.radii[second])
    shares = np.stack([SHARES - share, share])
    classes = []
    for parts, both, radius in zip(mixture[:, :2], shares.T, radii, strict=True):
        weights = np.zeros(radius + 1, np.int64)
        for number, own in zip(parts, both, strict=True):
            table = tables.classes[number].astype(np.int64)
            weights[: len(table) - 1] += own * table[:-1]
            weights[-1] += own * table[-1]  # escapes stay escapes
        frequencies = np.maximum(weights // SHARES, 1)
        frequencies[frequencies.argmax()] += FREQUENCY_SUM - frequencies.sum()
        classes.append(frequencies.astype(np.uint32))
    return Tables(radii, tuple(classes), tables.centroids)


def best_mixture(counts: NDArray[np.int64], tables: Tables) -> NDArray[np.uint8]:
    """Return the mixture uint8[128, 3] in which these symbols take the fewest bits.

    counts int64[128, 128]: by class and symbol, what escapes counted as what it stands for.
    """
    lengths = symbol_bits(tables)
    chances = 2.0**-lengths
    own = (counts * lengths).sum(axis=1)
    best, least = own_mixture(), own - _LEAST_SAVED
    for first in range(CLASSES):
        for share in range(SHARES // 2 + 1):
            mixed = ((SHARES - share) * chances[first] + share * chances) / SHARES
            bits = -(counts @ np.log2(mixed).T)
            second = bits.argmin(axis=1)
            spent = bits[np.arange(CLASSES), second]
            better = spent < least
            least[better] = spent[better]
            best[better] = np.stack([np.full(CLASSES, first), second, np.full(CLASSES, share)], 1)[
                better
            ]
    return best


def symbol_bits(tables: Tables) -> Numbers:
    """Return the bits of each table's symbols, escapes included: float64[128, 128]."""
    lengths = np.empty((CLASSES, ALPHABET))
    for own, frequencies in zip(lengths, tables.classes, strict=True):
        radius = len(frequencies) - 1
        own[:radius] = np.log2(FREQUENCY_SUM / frequencies[:radius])
        excess = np.arange(ALPHABET - radius)
        escape = np.log2(FREQUENCY_SUM / frequencies[radius]) + LENGTH_BITS
        own[radius:] = escape + np.floor(np.log2(excess + 1))
    return lengths
