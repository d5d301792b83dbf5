"""The classes of the one-sided mode's cells: merged until 128 tables are left."""

import numpy as np
from numpy.typing import NDArray

from .one_sided_tables import ALPHABET, CLASSES, ERRORS, PREDICTIONS, SHAPES, ZEROS

CELLS = SHAPES, ZEROS, PREDICTIONS, ERRORS
# The cells seen most often are merged; others take the class of the nearest of them.
_SEEN, _MOST = 50, 4500
_DISTANCE = np.array([3, 10, 2, 1])  # between shapes, zeros nearby, predictions and errors


def merge_cells(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Merge cells to 128 classes, each time the two whose code lengths grow least.

    counts int64[2 * 4 * 64 * 32, 128]: symbols by cell. Returns uint8[2, 4, 64, 32]. The classes
    are numbered by their mean symbol; cells hardly seen go with the nearest one.
    """
    often = counts.sum(axis=1)
    fewest = max(_SEEN, int(np.sort(often)[-min(_MOST, len(often))]))
    seen = np.flatnonzero(often > fewest)
    merged = counts[seen].astype(np.float64) + 1e-3
    bits = _entropy(merged)
    member, alive = np.arange(len(seen)), np.ones(len(seen), np.bool_)
    loss = np.full((len(seen), len(seen)), np.inf)
    for cell in range(len(seen) - 1):
        loss[cell, cell + 1 :] = _entropy(merged[cell] + merged[cell + 1 :])
        loss[cell, cell + 1 :] -= bits[cell] + bits[cell + 1 :]
    loss = np.minimum(loss, loss.T)
    partner = loss.argmin(axis=1)  # of each, the one that it would cost least to join
    for _ in range(len(seen) - CLASSES):
        kept = int(loss[np.arange(len(seen)), partner].argmin())
        gone = int(partner[kept])
        merged[kept] += merged[gone]
        bits[kept] = _entropy(merged[kept])
        member[member == gone] = kept
        alive[gone] = False
        loss[gone], loss[:, gone] = np.inf, np.inf
        change = np.full(len(seen), np.inf)
        change[alive] = _entropy(merged[kept] + merged[alive]) - bits[kept] - bits[alive]
        change[kept] = np.inf
        loss[kept], loss[:, kept] = change, change
        stale = (partner == kept) | (partner == gone)
        closer = change < loss[np.arange(len(seen)), partner]
        partner[closer] = kept
        stale[kept] = True
        partner[stale] = loss[stale].argmin(axis=1)
    left = np.flatnonzero(alive)
    mean = (merged[left] @ np.arange(ALPHABET)) / merged[left].sum(axis=1)
    number = np.zeros(len(seen), np.uint8)
    number[left[np.argsort(mean)]] = np.arange(len(left))
    places = np.stack(np.unravel_index(seen, CELLS), axis=1)
    every = np.stack(np.unravel_index(np.arange(len(counts)), CELLS), axis=1)
    nearest = [int((((places - one) * _DISTANCE) ** 2).sum(axis=1).argmin()) for one in every]
    return number[member[nearest]].reshape(CELLS)


def _entropy(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    share = counts / counts.sum(axis=-1, keepdims=True)
    bits: NDArray[np.float64] = -(counts * np.log2(share)).sum(axis=-1)
    return bits
