"""The universal entropy model: which frozen table codes each index. Integers only.

Indices in; for each its class, its symbol in that class's table, and the raw bits that no table
models; and back. Every probability comes from these integers alone, so that any machine decodes
what any other encoded.

The level of a coefficient is the quarter-octave of its expected magnitude in steps:
`level = offset[column] + base - (j >> 3) + row exponent`. Levels 0 to 63 are the classes
(a lower level is class 0). Above 63 the index loses one low bit, sent raw, for each octave, and
what is left has one of the classes 60 to 63: so any step works with 64 tables.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = 64
UNIT_LEVEL = 44  # the level at which the mean magnitude is one step
MAX_RAW_BITS = 24
LEVELS_PER_OCTAVE = 4


def levels(
    offsets: NDArray[np.int32], rows: NDArray[np.int32], exponents: NDArray[np.int32], shift: int
) -> NDArray[np.int32]:
    """Return the level int32[n] of each coefficient.

    `offsets` int32[n] belong to the coefficients, `exponents` int32 to the rows that `rows`
    int32[n] names; `shift` is the chunk's base less the step's quarter-octave.
    """
    return offsets + (exponents + np.int32(shift))[rows]


def quarter_octave(step_exponent: int) -> int:
    """Return j >> 3: the quarter-octave of the step 2^(j/32)."""
    return step_exponent >> 3


def classes_and_raw_bits(
    level: NDArray[np.int32],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Split levels into the class that codes the index and the number of its raw low bits."""
    top = CLASSES - 1
    raw_bits = np.clip((level - (top - LEVELS_PER_OCTAVE + 1)) >> 2, 0, MAX_RAW_BITS)
    classes = np.clip(level - LEVELS_PER_OCTAVE * raw_bits, 0, top)
    return classes.astype(np.uint8), raw_bits.astype(np.uint8)


def coding_order(classes: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Return the permutation that codes class by class, each in the coefficients' own order."""
    return np.argsort(classes, kind="stable")


@dataclass(frozen=True)
class Symbols:
    """Indices in coding order, as the entropy coder takes them.

    symbols: int32[n], from 0 to 2 * radius of the coefficient's class; the edges are escapes.
    low: int64[n], the raw low bits of each index; 0 where it has none.
    excess: int64[escapes], how far each escaped magnitude is beyond its radius.
    """

    symbols: NDArray[np.int32]
    low: NDArray[np.int64]
    excess: NDArray[np.int64]


def to_symbols(
    indices: NDArray[np.int32], raw_bits: NDArray[np.uint8], radii: NDArray[np.int32]
) -> Symbols:
    """Split indices int32[n] into symbols, raw bits and escapes; all arrays in coding order."""
    raw = raw_bits.astype(np.int64)
    lifted = indices + ((1 << raw) >> 1)
    coarse = lifted >> raw
    beyond = np.abs(coarse) - radii
    return Symbols(
        symbols=(np.clip(coarse, -radii, radii) + radii).astype(np.int32),
        low=lifted - (coarse << raw),
        excess=beyond[beyond >= 0],
    )


def escapes(symbols: NDArray[np.int32], radii: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Tell which symbols are escapes: the first and the last of their class's alphabet."""
    at_edge: NDArray[np.bool_] = (symbols == 0) | (symbols == 2 * radii)
    return at_edge


def from_symbols(
    parts: Symbols, raw_bits: NDArray[np.uint8], radii: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Join what `to_symbols` split; the indices int64[n] stay in coding order."""
    coarse = parts.symbols.astype(np.int64) - radii
    escaped = escapes(parts.symbols, radii)
    coarse[escaped] += np.sign(coarse[escaped]) * parts.excess
    raw = raw_bits.astype(np.int64)
    return (coarse << raw) + parts.low - ((1 << raw) >> 1)
