"""The Gaussian figure is the textbook's, whatever the rotation."""

import numpy as np
import pytest
from featurewire_bench.gaussian import GaussianFigure
from featurewire_bench.sources import Part


def rotated(variances: list[float], tokens: int = 4000, seed: int = 0) -> Part:
    """Samples whose covariance is a rotated diagonal, exactly."""
    rng = np.random.default_rng(seed)
    channels = len(variances)
    white = rng.standard_normal((tokens, channels))
    white = np.linalg.qr(white - white.mean(0))[0] * np.sqrt(tokens)
    rotation = np.linalg.qr(rng.standard_normal((channels, channels)))[0]
    values = (white * np.sqrt(variances)) @ rotation
    return Part("hidden", [], [values.astype(np.float32)])


def test_equal_variances_cost_half_a_logarithm() -> None:
    figure = GaussianFigure.of([rotated([4.0] * 6)])
    assert figure.bits(1.0) == pytest.approx(1.0, abs=1e-3)
    assert figure.bits(4.001) == 0.0


def test_water_covers_the_small_variances() -> None:
    figure = GaussianFigure.of([rotated([16.0, 1.0, 0.25, 0.25])])
    # At a level of 1 the last three are dropped: D = (1 + 1 + 0.25 + 0.25) / 4.
    assert figure.bits(0.625) == pytest.approx(0.5 * np.log2(16) / 4, abs=1e-3)


def test_parts_count_by_their_feature_points() -> None:
    many, few = rotated([4.0] * 6, tokens=6000), rotated([64.0] * 2, tokens=1500, seed=1)
    points = 6 * 6000 + 2 * 1500
    bits = (6 * 6000 * 1.0 + 2 * 1500 * 3.0) / points  # one level of 1 for all
    assert GaussianFigure.of([many, few]).bits(1.0) == pytest.approx(bits, abs=2e-3)
