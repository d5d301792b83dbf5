"""Floats of any kind in, float32 out; and whether all of them are finite."""

import functools
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backend import load_backend


def widen(array: NDArray[Any]) -> tuple[NDArray[np.float32], bool]:
    """Return a contiguous float32 array, and whether all its values are finite.

    Where it has no room for a value, there is an infinity.
    """
    loops = _loops()
    if array.dtype == np.float16 and loops is not None:
        halves: tuple[NDArray[np.float32], bool] = loops.widen_halves(np.ascontiguousarray(array))
        return halves
    with np.errstate(over="ignore"):
        wide = np.ascontiguousarray(array, dtype=np.float32)
    return wide, all_finite(wide)


def all_finite(values: NDArray[np.float32]) -> bool:
    """Tell whether there is no NaN and no infinity."""
    loops = _loops()
    return bool(np.isfinite(values).all() if loops is None else loops.all_finite(values))


@functools.cache
def _loops() -> ModuleType | None:
    if load_backend().name != "numba":
        return None
    from .kernels import floats

    return floats
