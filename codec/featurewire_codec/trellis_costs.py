"""What the search through a trellis weighs: bits by the frozen tables against squared errors.

Only the encoder needs it. Bits beyond a magnitude of 3 are taken to grow in a straight line, as
those of a Laplacian variable do.
"""

import numpy as np
from numpy.typing import NDArray

from .entropy_model import CLASSES, LEVELS_PER_OCTAVE, UNIT_LEVEL
from .quantiser import CENTROID_UNIT
from .tables import FREQUENCY_SUM, Tables
from .trellis import TrellisCosts

# What a bit is worth to the search, in squared steps.
TRELLIS_BIT_WORTH = 0.065
_DEAD_ZONE = 0.6  # of the first guess: in steps, below it an index is zero


def trellis_costs(tables: Tables, bit_worth: float = TRELLIS_BIT_WORTH) -> TrellisCosts:
    """Return the costs by these tables."""
    bits = np.empty((CLASSES, 2, 5))
    for number, frequencies in enumerate(tables.trellis):
        own = number >> 1
        radius = int(tables.radii[own])
        cost = np.log2(FREQUENCY_SUM) - np.log2(frequencies[radius:])
        far = min(radius - 1, max(5, round(3 * _mean(own))))
        slope = (cost[far] - cost[3]) / (far - 3) if far > 3 else cost[3] - cost[2]
        bits[own, number & 1] = [*cost[:4], slope]
    return _costs(bits, tables.trellis_centroids, bit_worth)


def laplacian_costs(bit_worth: float = TRELLIS_BIT_WORTH) -> TrellisCosts:
    """Return the costs before there are tables, by the exponential law of magnitudes."""
    bits = np.empty((CLASSES, 2, 5))
    for own in range(CLASSES):
        slope = np.log2(np.e) / _mean(own)
        some = _DEAD_ZONE * slope
        first = some + 1 - np.log2(-np.expm1(-1 / _mean(own)))
        zero = -np.log2(-np.expm1(-_DEAD_ZONE / _mean(own)))
        bits[own] = [zero, first, first + slope, first + 2 * slope, slope]
    return _costs(bits, np.zeros((CLASSES, 2, 4), np.int8), bit_worth)


def _costs(bits: NDArray[np.float64], centroids: NDArray[np.int8], worth: float) -> TrellisCosts:
    places = centroids[:, :, 1:] / CENTROID_UNIT - np.array([0.0, 0.5])[:, None]
    return TrellisCosts(np.concatenate([worth * bits, places], axis=-1).astype(np.float32))


def _mean(own: int) -> float:
    """Return the mean magnitude of a class, in steps."""
    return float(2.0 ** ((own - UNIT_LEVEL) / LEVELS_PER_OCTAVE))
