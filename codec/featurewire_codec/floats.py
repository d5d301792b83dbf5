"""Floats of any kind in, float32 out; and whether all of them are finite."""

import functools
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backend import load_backend


def widen(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return a contiguous float32 array, of infinities where it has no room for a value."""
    loops = _loops()
    if array.dtype == np.float16 and loops is not None:
        widened: NDArray[np.float32] = loops.widen_halves(np.ascontiguousarray(array))
        return widened
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


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
