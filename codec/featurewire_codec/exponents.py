"""The encoder's choice of exponents: magnitudes in, small integers for rows and columns out.

A row (a token or a block) whose coefficients are larger or smaller than the profile expects gets an
exponent in quarter-octaves, sent as side information. Without a profile, so does each column.
Floats are welcome here: the decoder reads the integers and never repeats the choice.
"""

import functools
from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .entropy_model import LEVELS_PER_OCTAVE, UNIT_LEVEL, Ladder, quarter_octave
from .panels import GIANT
from .quantiser import step_size

MAX_EXPONENT = 31
_MAX_ROW_EXPONENT = 24
_ROW_RESOLUTION = 2  # half-octaves: finer ones cost more than they save
_BITS_A_ROW = 3.0
_MIN_ROWS_FOR_COLUMNS = 16
_WEIGHT_UNIT = 1024.0
_EXPONENTS = np.arange(-_MAX_ROW_EXPONENT, _MAX_ROW_EXPONENT + 1, _ROW_RESOLUTION, dtype=np.int32)
# The ratios at which one exponent becomes the next; and what an exponent saves for each unit of
# weight: a scale off by r costs a Laplacian variable about (ln r)^2 / (2 ln 2) bits.
_BOUNDS = 2.0 ** ((_EXPONENTS[1:] - _ROW_RESOLUTION / 2) / LEVELS_PER_OCTAVE)
_SAVED = np.log(2.0) / 2.0 * (_EXPONENTS / LEVELS_PER_OCTAVE) ** 2 / _WEIGHT_UNIT
_BOUND_LIST, _SAVED_LIST = _BOUNDS.tolist(), _SAVED.tolist()


class Expectation(NamedTuple):
    """What a row's coefficients should be like: for `panels.activity`, and the weights' sum.

    inverse, weight: float32[columns] in coding order; total: of the weights.
    """

    inverse: NDArray[np.float32]
    weight: NDArray[np.float32]
    total: float


@functools.lru_cache(maxsize=64)
def expectation(ladder: Ladder, base: int, step_exponent: int) -> Expectation:
    """Return what the columns of a ladder should hold at a step, when no row is out of line."""
    level = ladder.offsets + (base - quarter_octave(step_exponent))
    octaves = (level - UNIT_LEVEL) / LEVELS_PER_OCTAVE
    expected = 2.0 ** np.clip(octaves, -40.0, 60.0)  # within float32, with the step and inverted
    # A coefficient far below the step is zero whatever its row does; it has no say.
    weight = (_WEIGHT_UNIT * expected**2 / (expected**2 + 0.05)).astype(np.float32)
    inverse = (1.0 / (expected * step_size(step_exponent))).astype(np.float32)
    return Expectation(inverse, weight, float(weight.sum(dtype=np.float64)))


def row_exponents(
    activity: NDArray[np.int64], total: NDArray[np.float64] | float
) -> NDArray[np.int32]:
    """Return the exponents int32[rows]; all zero when they would not pay for themselves.

    `activity` int64[rows] is `panels.activity` of each row, `total` float64[rows] the sum of the
    weights that went into it; a number where it is all rows'.
    """
    if isinstance(total, float) and len(activity) == 1:  # the same without arrays: sooner
        only = bisect_left(_BOUND_LIST, int(activity[0]) / (total + 1e-9))
        pays = _SAVED_LIST[only] * total >= _BITS_A_ROW
        return _EXPONENTS[only : only + 1] if pays else np.zeros(1, np.int32)
    place = _BOUNDS.searchsorted(activity / (total + 1e-9))
    if float(np.sum(_SAVED[place] * total)) < _BITS_A_ROW * len(activity):
        return np.zeros(len(activity), np.int32)
    return _EXPONENTS[place]


def column_levels(magnitude: NDArray[np.float32]) -> tuple[int, NDArray[np.int32]]:
    """Return one level for all and the columns' exponents beside it, int32[columns].

    `magnitude` float32[rows, columns] is in steps. With too few rows to repay a column's exponent,
    all exponents are zero.
    """
    rows = magnitude.shape[0]
    usual = GIANT * float(np.mean(magnitude)) + 1e-9
    typical = np.minimum(magnitude, usual) if rows < _MIN_ROWS_FOR_COLUMNS else magnitude
    middle = _level_of(np.array([typical.mean()]))[0]
    if rows < _MIN_ROWS_FOR_COLUMNS:
        return int(middle), np.zeros(magnitude.shape[1], np.int32)
    level = _level_of(magnitude.mean(axis=0))
    middle = int(np.median(level))
    return middle, np.clip(level - middle, -MAX_EXPONENT, MAX_EXPONENT)


def _level_of(mean: NDArray[np.floating]) -> NDArray[np.int32]:
    octaves = np.log2(np.maximum(mean, 2.0 ** (-UNIT_LEVEL / LEVELS_PER_OCTAVE)))
    level: NDArray[np.int32] = np.rint(octaves * LEVELS_PER_OCTAVE).astype(np.int32)
    return level + np.int32(UNIT_LEVEL)
