"""The quality knob: which of the few trained networks serves an SNR.

A network has one lambda and so one quality for each feature: the knob has as many places as there
are networks. All of them saturate: a network has 0.75 numbers for each pixel.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..feature import energy
from .kmeans import Form, to_indices, to_values
from .plane import Plane
from .plane_coder import PlaneCoder
from .weights import Networks

EXCERPT = 1 << 17  # pixels of one sample that are measured
SAMPLES = 16

Array = NDArray[np.float32]


def choose(snrs_db: Iterable[float], snr_db: float) -> int:
    """Return the first network that reaches the SNR, else the best one.

    Networks come by rising lambda and so by rising rate. Their SNRs need not rise with it: networks
    minimise the error of indices, not of values. SNRs after the first that is enough are not read.
    """
    best, most = 0, -math.inf
    for network, reached in enumerate(snrs_db):
        if reached >= snr_db:
            return network
        if reached > most:
            best, most = network, reached
    return best


def snrs_of(
    array: Array, grid: tuple[int, int] | None, centres: Array, form: Form, networks: Networks
) -> Iterator[float]:
    """Measure one network after the other on an excerpt of the feature: E over the MSE, in dB."""
    scale, part, part_grid = energy(array), *excerpt(array, grid)
    for coder in networks.coders:
        error = squared_error(part, part_grid, centres, form, coder)
        yield decibels(scale, error / part.size)


def measure_snrs(
    arrays: Sequence[Array], grid: tuple[int, int] | None, centres: Array, networks: Networks
) -> tuple[float, ...]:
    """Measure every network on some of the samples: E over the mean MSE, in dB."""
    some = arrays[:: -(-len(arrays) // SAMPLES)]
    scale = energy(np.concatenate(some))
    parts = [excerpt(array, grid) for array in some]
    size = sum(part.size for part, _ in parts)
    snrs_db = []
    for coder in networks.coders:
        errors = [squared_error(part, own, centres, "nearest", coder) for part, own in parts]
        snrs_db.append(round(decibels(scale, sum(errors) / size), 3))
    return tuple(snrs_db)


def excerpt(array: Array, grid: tuple[int, int] | None) -> tuple[Array, tuple[int, int] | None]:
    """Cut tokens, or rows of the grid, out of the middle."""
    tokens, channels = array.shape
    if array.size <= EXCERPT:
        return array, grid
    unit = grid[1] if Plane.of(tokens, channels, grid).grid and grid else 1
    rows = tokens // unit
    kept = min(max(EXCERPT // (unit * channels), 1), rows)
    start = (rows - kept) // 2 * unit
    return array[start : start + kept * unit], (kept, unit) if unit > 1 else None


def squared_error(
    array: Array, grid: tuple[int, int] | None, centres: Array, form: Form, coder: PlaneCoder
) -> float:
    """Sum the squared error that a feature has after the network, without coding anything."""
    total = 0.0
    indices = to_indices(array, centres, form)
    for span, plane in Plane.of_array(array, grid).chunks():
        latents, _ = coder.latents(plane.pack(indices[span.start : span.stop]))
        decoded = to_values(plane.unpack(coder.plane(latents)), centres)
        error = decoded.astype(np.float64) - array[span.start : span.stop]
        total += float(np.sum(error**2))
    return total


def decibels(scale: float, error: float) -> float:
    """SNR in dB, at most 150."""
    return float(10 * np.log10(scale / max(error, 1e-15 * scale)))
