"""The universal entropy model: which frozen table codes each index. Integers only.

Every probability comes from these integers alone, so that any machine decodes what any other
encoded. The level of a coefficient is the quarter-octave of its expected magnitude in steps,

    level = offset[column] + row exponent + base - (j >> 3),

clipped to 0 .. 159, its *group*. Groups 0 to 63 are the classes, each with a frozen table. Above
them the index loses one low bit, sent raw, for each octave, and what is left has one of the classes
60 to 63: so any step works with 64 tables.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = 64
UNIT_LEVEL = 48  # the level at which the mean magnitude is one step
MAX_RAW_BITS = 24
LEVELS_PER_OCTAVE = 4
GROUPS = CLASSES + LEVELS_PER_OCTAVE * MAX_RAW_BITS

_group = np.arange(GROUPS)
GROUP_RAW_BITS = np.maximum((_group - (CLASSES - LEVELS_PER_OCTAVE)) >> 2, 0).astype(np.uint8)
GROUP_CLASS = (_group - LEVELS_PER_OCTAVE * GROUP_RAW_BITS).astype(np.uint8)


def quarter_octave(step_exponent: int) -> int:
    """Return j >> 3: the quarter-octave of the step 2^(j/32)."""
    return step_exponent >> 3


@dataclass(frozen=True, eq=False)
class Ladder:
    """The columns of a panel in coding order: by rising offset, equal ones by number.

    order: int32[columns], the columns' places in that order; empty when they already are.
    first: int32[highest - lowest + 2], the first place whose offset is at least lowest + n.
    """

    columns: int
    lowest: int
    order: NDArray[np.int32]
    first: NDArray[np.int32]

    @classmethod
    def of(cls, offsets: NDArray[np.int32]) -> "Ladder":
        """Sort the columns with these offsets, int32[columns]."""
        order = np.argsort(offsets, kind="stable").astype(np.int32)
        rising = offsets[order]
        lowest, highest = int(rising[0]), int(rising[-1])
        first = np.searchsorted(rising, np.arange(lowest, highest + 2)).astype(np.int32)
        sorted_already = bool((np.diff(order) == 1).all())
        return cls(len(offsets), lowest, order[:0] if sorted_already else order, first)

    @functools.cached_property
    def offsets(self) -> NDArray[np.int32]:
        """The offsets in coding order, int32[columns]."""
        steps = np.arange(len(self.first) - 1, dtype=np.int32) + np.int32(self.lowest)
        return np.repeat(steps, np.diff(self.first))

    def groups(self, shifts: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Return the group uint8[rows, columns] of each coefficient, the columns in coding order.

        `shifts` int32[rows] is what the chunk and the row add to the offsets.
        """
        level = self.offsets[None, :] + shifts[:, None]
        groups: NDArray[np.uint8] = np.clip(level, 0, GROUPS - 1).astype(np.uint8)
        return groups

    def in_order(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring [rows, columns] into coding order."""
        return values[:, self.order] if len(self.order) else values
