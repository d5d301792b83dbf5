"""The encoder's choice of exponents: magnitudes in, small integers for rows and columns out.

A row (a token or a block) whose coefficients are larger or smaller than the profile expects gets an
exponent in quarter-octaves, sent as side information. Without a profile, so does each column.
Floats are welcome here: the decoder reads the integers and never repeats the choice.
"""

import numpy as np
from numpy.typing import NDArray

from .entropy_model import LEVELS_PER_OCTAVE, UNIT_LEVEL

MAX_EXPONENT = 31
_MAX_ROW_EXPONENT = 24
_ROW_RESOLUTION = 2  # half-octaves: finer ones cost more than they save
_GIANT = 16.0  # a coefficient this many times its expected magnitude says nothing about its row
_BITS_A_ROW = 3.0
_MIN_ROWS_FOR_COLUMNS = 16


def row_exponents(
    magnitude: NDArray[np.float32], level: NDArray[np.int32], row: NDArray[np.int32], rows: int
) -> NDArray[np.int32]:
    """Return the exponents int32[rows]; all zero when they would not pay for themselves.

    `magnitude` float32[n] is in steps, `level` int32[n] the level with exponents of zero.
    """
    lowest = int(level.min())
    octaves = (np.arange(lowest, int(level.max()) + 1) - UNIT_LEVEL) / LEVELS_PER_OCTAVE
    expected = 2.0 ** np.clip(octaves, -40.0, 100.0)  # within float32, its inverse too
    # A coefficient far below the step is zero whatever its row does; it has no say.
    weight = (expected**2 / (expected**2 + 0.05)).astype(np.float32)
    place = level - lowest
    ratio = np.minimum(magnitude * (1.0 / expected).astype(np.float32)[place], np.float32(_GIANT))
    total = np.bincount(row, weights=weight[place], minlength=rows)
    mean = np.bincount(row, weights=ratio * weight[place], minlength=rows) / (total + 1e-9)
    gain = np.log2(np.maximum(mean, 1e-6))
    steps = np.rint(gain * (LEVELS_PER_OCTAVE / _ROW_RESOLUTION)).astype(np.int32)
    limit = _MAX_ROW_EXPONENT
    exponents: NDArray[np.int32] = np.clip(steps * _ROW_RESOLUTION, -limit, limit)
    # A scale off by r costs a Laplacian variable about (ln r)^2 / (2 ln 2) bits.
    saved = total * (np.log(2.0) / 2.0) * (exponents / LEVELS_PER_OCTAVE) ** 2
    if saved.sum() < _BITS_A_ROW * rows:
        exponents[:] = 0
    return exponents


def column_levels(magnitude: NDArray[np.float32]) -> tuple[int, NDArray[np.int32]]:
    """Return one level for all and the columns' exponents beside it, int32[columns].

    `magnitude` float32[rows, columns] is in steps. With too few rows to repay a column's exponent,
    all exponents are zero.
    """
    rows = magnitude.shape[0]
    usual = _GIANT * float(np.mean(magnitude)) + 1e-9
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
