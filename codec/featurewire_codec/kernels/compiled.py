"""How the kernels are compiled: at import, without the GIL, and once for all processes."""

import warnings
from typing import Any

from numba import njit

inlined = njit(nogil=True)  # for what other kernels call: compiled into them


def compiled(signature: str) -> Any:
    """Compile a function when its module is imported, and keep the machine code on disk.

    numba keeps it beside the module, or in the user's cache folder. Where neither can be written
    it compiles in every process, and says so.
    """

    def compile_(function: Any) -> Any:
        try:
            return njit(signature, cache=True, nogil=True)(function)
        except RuntimeError as error:  # numba found no folder to cache in
            warnings.warn(f"compiled kernels are not kept: {error}", RuntimeWarning, stacklevel=2)
            return njit(signature, nogil=True)(function)

    return compile_
