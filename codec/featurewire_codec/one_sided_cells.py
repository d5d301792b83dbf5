"""The classes of the one-sided mode's cells: merged until 64 tables are left."""

import numpy as np
from numpy.typing import NDArray

from .one_sided_tables import ALPHABET, ERRORS, PREDICTIONS
from .tables import CLASSES

_SEEN = 200  # a cell seen less often takes the class of the nearest one


def merge_cells(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Merge cells to 64 classes, each time the two whose code lengths grow least: uint8[64, 32].

    The classes are numbered by their mean symbol; cells hardly seen go with the nearest one.
    """
    seen = np.flatnonzero(counts.sum(axis=1) > _SEEN)
    merged = counts[seen].astype(np.float64) + 1e-3
    bits = _entropy(merged)
    member, alive = np.arange(len(seen)), np.ones(len(seen), np.bool_)
    loss = np.full((len(seen), len(seen)), np.inf)
    for cell in range(len(seen) - 1):
        joint = _entropy(merged[cell] + merged[cell + 1 :])
        loss[cell, cell + 1 :] = joint - bits[cell] - bits[cell + 1 :]
    for _ in range(len(seen) - CLASSES):
        kept, gone = divmod(int(loss.argmin()), len(seen))
        merged[kept] += merged[gone]
        bits[kept] = _entropy(merged[kept])
        member[member == gone] = kept
        alive[gone] = False
        loss[gone], loss[:, gone] = np.inf, np.inf
        change = _entropy(merged[kept] + merged) - bits[kept] - bits
        change[~alive] = np.inf
        loss[kept, kept + 1 :], loss[:kept, kept] = change[kept + 1 :], change[:kept]
    left = np.flatnonzero(alive)
    mean = (merged[left] @ np.arange(ALPHABET)) / merged[left].sum(axis=1)
    number = np.zeros(len(seen), np.uint8)
    number[left[np.argsort(mean)]] = np.arange(len(left))
    classes = np.zeros(PREDICTIONS * ERRORS, np.uint8)
    places = np.stack(np.divmod(seen, ERRORS))
    for cell in range(len(classes)):
        level, error = divmod(cell, ERRORS)
        nearest = (4 * (places[0] - level) ** 2 + (places[1] - error) ** 2).argmin()
        classes[cell] = number[member[nearest]]
    return classes.reshape(PREDICTIONS, ERRORS)


def _entropy(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    share = counts / counts.sum(axis=-1, keepdims=True)
    bits: NDArray[np.float64] = -(counts * np.log2(share)).sum(axis=-1)
    return bits
