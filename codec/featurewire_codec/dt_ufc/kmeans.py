"""The peaky-to-balanced transform: values in, indices of 256 sorted centres out, and back.

One-dimensional k-means on features of one model (DT-UFC, arXiv 2506.16495). Dense values get many
centres and rare ones few, so that the indices are spread over the whole range.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

CENTRES = 256
ITERATIONS = 40
MOVED = 32  # centres, at most, that change their place in one iteration
SAMPLE = 1 << 17  # values that k-means sees: 512 a centre

Form = Literal["nearest", "published"]


def fit_centres(values: NDArray[np.float32], iterations: int = ITERATIONS) -> NDArray[np.float32]:
    """Fit 256 centres float32[256], sorted, to any number of finite values by Lloyd's algorithm.

    The start has the density of centres that is best for many of them. Centres that lose all
    their values move into the clusters with the largest errors. Deterministic.
    """
    flat = values.reshape(-1)
    if flat.size > SAMPLE:  # drawn, not strided: a stride may meet the same channels every time
        drawn = flat[np.random.default_rng(0).integers(flat.size, size=SAMPLE)]
        flat = np.append(drawn, [flat.min(), flat.max()])
    points = np.sort(flat).astype(np.float64)
    # Sums of large values would cancel: centre them first.
    shift, scale = float(np.median(points)), float(np.ptp(points)) or 1.0
    points = (points - shift) / scale
    total = np.concatenate([[0.0], np.cumsum(points)])
    power = np.concatenate([[0.0], np.cumsum(points**2)])
    # The best density of many centres is the cube root of the values'; a quantile's is 1 / width.
    quantiles = np.quantile(points, np.linspace(0, 1, 16 * CENTRES))
    widths = np.diff(quantiles)
    weights = np.minimum(widths, np.quantile(widths, 0.999)) ** (2 / 3)
    places = np.concatenate([[0.0], np.cumsum(weights)])
    centres = np.interp(np.linspace(0, places[-1], CENTRES), places, quantiles)
    centres[0], centres[-1] = points[0], points[-1]
    for step in range(iterations):
        edges = np.searchsorted(points, (centres[1:] + centres[:-1]) / 2)
        first, last = np.append(0, edges), np.append(edges, points.size)
        count = last - first
        sums = total[last] - total[first]
        means = np.where(count > 0, sums / np.maximum(count, 1), centres)
        error = np.maximum(power[last] - power[first] - sums * means, 0.0)
        if step < iterations // 2:
            # Lloyd's steps alone leave the tails with too few centres: where it costs less than it
            # gains, a centre leaves its values to its neighbour and splits another cluster.
            gaps = np.concatenate([[np.inf], np.diff(means), [np.inf]])
            cost = count * np.minimum(gaps[1:], gaps[:-1]) ** 2
            spare, worst = np.argsort(cost, kind="stable"), np.argsort(-error, kind="stable")
            moved = np.count_nonzero(cost[spare[:MOVED]] < error[worst[:MOVED]] / 2)
            spare, worst = spare[:moved], worst[:moved]
            spread = np.sqrt(error[worst] / np.maximum(count[worst], 1))
            means[spare] = means[worst] + spread
            means[worst] -= spread
        centres = np.sort(means)
    return np.asarray(centres * scale + shift, np.float32)


def to_indices(
    values: NDArray[np.float32], centres: NDArray[np.float32], form: Form
) -> NDArray[np.uint8]:
    """Replace every value by the index of a centre, uint8 of the same shape.

    nearest: the nearest centre. published: the last centre that is not above the value, as the
    paper's code floors; this costs about four times the squared error.
    """
    if form == "nearest":
        wide = centres.astype(np.float64)
        indices = np.searchsorted((wide[1:] + wide[:-1]) / 2, values)
    else:
        indices = np.maximum(np.searchsorted(centres, values, side="right") - 1, 0)
    return indices.astype(np.uint8)


def to_values(indices: NDArray[np.uint8], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Look the centres up: float32 of the same shape."""
    values: NDArray[np.float32] = centres[indices]
    return values
