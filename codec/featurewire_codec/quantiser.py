"""The universal quantiser: its step, and what magnitude is rounded to what.

One step 2^(j/32) serves all coefficients (reverse water-filling then comes free); j is the step
exponent, 0.19 dB apart. An index is rebuilt at the centroid of what its class holds there. The
encoder weighs error against bits (rate-distortion-optimised quantisation): as the classes know no
context, that is a list of thresholds for each class, made once.

Sullivan and Wiegand, "Rate-distortion optimization for video compression", 1998.
"""

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .errors import FeatureError

# How hard an encoder tries: thresholds of rounding, or the search through a trellis.
Effort = Literal["fast", "trellis"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)
STEPS_PER_OCTAVE = 32
MIN_STEP_EXPONENT = -2048  # a step of 2^-64
MAX_STEP_EXPONENT = 2047
# A bit is worth this much squared error, in squared steps: about what halving the step would cost.
BIT_WORTH = 0.1
CENTROID_UNIT = 256  # centroids are in 1/256 of a step


def step_size(step_exponent: int) -> float:
    """Return the step 2^(j/32)."""
    return math.pow(2.0, step_exponent / STEPS_PER_OCTAVE)


def nearest_step_exponent(step: float) -> int:
    """Return the j whose step is nearest to `step` (above zero) on the logarithmic scale."""
    return round(STEPS_PER_OCTAVE * math.log2(step))


def step_for(energy: float, snr_db: float) -> int:
    """Return the j whose step leaves an error of step^2 / 12 a value, `snr_db` below `energy`."""
    return nearest_step_exponent(math.sqrt(12.0 * energy * 10 ** (-snr_db / 10)))


def checked_step_exponent(step_exponent: int, asked: str) -> int:
    """Return j when a bitstream can say it.

    Raises:
        FeatureError: it cannot; `asked` says what would need it.
    """
    if not MIN_STEP_EXPONENT <= step_exponent <= MAX_STEP_EXPONENT:
        raise FeatureError(
            f"{asked} needs a step of 2^{step_exponent / STEPS_PER_OCTAVE:.0f}, "
            "beyond 2^-64 to 2^64: scale the feature"
        )
    return step_exponent


def rounding_thresholds(
    bits: NDArray[np.float64], centroids: NDArray[np.int8], bit_worth: float = BIT_WORTH
) -> NDArray[np.float32]:
    """Return float32[classes, 4], what `panels.quantise` rounds by.

    `bits` float64[classes, 5] is what the magnitudes 0 to 4 cost, signs included; `centroids` is
    int8[classes, 4]. A magnitude x becomes m rather than m - 1 where that lowers
    (x - value(m))^2 + bit_worth * bits(m).
    """
    place = np.arange(5) + centroids[:, [0, 1, 2, 3, 3]] / CENTROID_UNIT
    middle = (place[:, 1:] + place[:, :-1]) / 2
    switch = middle + bit_worth * np.diff(bits, axis=1) / (2 * np.diff(place, axis=1))
    switch = np.maximum.accumulate(np.clip(switch, 0.5, None), axis=1)
    switch[:, :3] = np.minimum(switch[:, :3], 3.0)
    switch[:, 3] = np.clip(4.0 - switch[:, 3], 0.25, 0.5)
    return switch.astype(np.float32)


def midpoint_thresholds(classes: int) -> NDArray[np.float32]:
    """Return the thresholds of plain rounding, likewise."""
    return np.tile(np.array([0.5, 1.5, 2.5, 0.5], np.float32), (classes, 1))
