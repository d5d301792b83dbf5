"""How the kernels are compiled: at import, without the GIL, and once for all processes."""

import warnings
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

# For what other kernels call: written into them before they are compiled.
inlined = njit(nogil=True, inline="always")


@intrinsic
def high_product(context, a, b):  # type: ignore[no-untyped-def]
    """Return the upper 64 bits of the product of two uint64."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        wide = ir.IntType(128)
        a, b = (builder.zext(argument, wide) for argument in arguments)
        return builder.trunc(builder.lshr(builder.mul(a, b), wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


def compiled(signature: str, makes_arrays: bool = False) -> Any:
    """Compile a function when its module is imported, and keep the machine code on disk.

    numba keeps it beside the module, or in the user's cache folder. Where neither can be written
    it compiles in every process, and says so. Without `makes_arrays`, no references are counted:
    numba does so wherever a loop passes an array on, which can take longer than the loop.
    """
    options = {"nogil": True, "_nrt": makes_arrays}

    def compile_(function: Any) -> Any:
        try:
            return njit(signature, cache=True, **options)(function)
        except RuntimeError as error:  # numba found no folder to cache in
            warnings.warn(f"compiled kernels are not kept: {error}", RuntimeWarning, stacklevel=2)
            return njit(signature, **options)(function)

    return compile_
