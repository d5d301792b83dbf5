"""The universal quantiser: float coefficients in, integer indices out, and back.

One step 2^(j/32) serves all coefficients (reverse water-filling then comes free); j is the step
exponent, 0.19 dB apart. An index is rebuilt at the centroid of what its class holds there.
"""

import math

import numpy as np
from numpy.typing import NDArray

from .errors import FeatureError

STEPS_PER_OCTAVE = 32
MIN_STEP_EXPONENT = -2560  # a step of 2^-80
MAX_STEP_EXPONENT = 2048  # a step of 2^64
MAX_INDEX = 1 << 30
# A magnitude is rounded up from 0.58 on: fewer bits for less than they are worth in error.
ROUNDING = 0.42
CENTROID_UNIT = 256  # centroids are in 1/256 of a step


def step_size(step_exponent: int) -> float:
    """Return the step 2^(j/32)."""
    return math.pow(2.0, step_exponent / STEPS_PER_OCTAVE)


def nearest_step_exponent(step: float) -> int:
    """Return the j whose step is nearest to `step` (above zero) on the logarithmic scale."""
    return round(STEPS_PER_OCTAVE * math.log2(step))


def quantise(values: NDArray[np.float32], step_exponent: int) -> NDArray[np.int32]:
    """Round coefficients of any shape to indices, with a small dead zone around zero.

    Raises:
        FeatureError: a coefficient is more than 2^30 steps from zero.
    """
    scaled = values * np.float32(1.0 / step_size(step_exponent))
    magnitude = np.abs(scaled)
    largest = float(magnitude.max(initial=0.0))
    if not largest < MAX_INDEX:
        raise FeatureError(
            f"a coefficient is {largest:.3g} quantiser steps from zero, at most {MAX_INDEX} "
            "can be coded: ask for a lower snr_db, or encode without this profile"
        )
    indices = (magnitude + np.float32(ROUNDING)).astype(np.int32)
    signed: NDArray[np.int32] = np.where(scaled < 0, -indices, indices)
    return signed


def dequantise(
    indices: NDArray[np.integer],
    classes: NDArray[np.uint8],
    step_exponent: int,
    centroids: NDArray[np.int8],
) -> NDArray[np.float32]:
    """Rebuild coefficients from indices: (|k| + centroid[class, |k|]) steps, with k's sign.

    `centroids` is int8[classes, 4] in 1/256 of a step, for |k| = 0 (always 0), 1, 2, and 3 or more.
    """
    magnitude = np.abs(indices)
    which = np.minimum(magnitude, centroids.shape[1] - 1)
    shift = centroids[classes, which].astype(np.float32) * np.float32(1.0 / CENTROID_UNIT)
    rebuilt = (magnitude.astype(np.float32) + shift) * np.float32(step_size(step_exponent))
    signed: NDArray[np.float32] = np.sign(indices).astype(np.float32) * rebuilt
    return signed
