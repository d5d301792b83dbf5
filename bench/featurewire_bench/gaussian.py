"""The Gaussian figure: the rate-distortion function of a memoryless Gaussian vector source.

Reverse water-filling over the eigenvalues of the tested features' own covariance (T. Berger, "Rate
distortion theory", 1971). A yardstick, no bound: features that cluster lie below it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurewire_bench.sources import Part

_HALVINGS = 100


@dataclass(frozen=True, eq=False)
class GaussianFigure:
    """variances: eigenvalues of all parts; weights: each one's share of the feature points."""

    variances: NDArray[np.float64]
    weights: NDArray[np.float64]

    @classmethod
    def of(cls, parts: Sequence[Part]) -> "GaussianFigure":
        """Measure the covariance of the tests."""
        points = sum(sample.size for part in parts for sample in part.tests)
        variances, weights = [], []
        for part in parts:
            tests = np.concatenate(part.tests)
            centred = tests - tests.mean(axis=0, dtype=np.float64).astype(np.float32)
            covariance = (centred.T @ centred).astype(np.float64) / len(tests)
            variances.append(np.maximum(np.linalg.eigvalsh(covariance), 0.0))
            weights.append(np.full(tests.shape[1], len(tests) / points))
        return cls(np.concatenate(variances), np.concatenate(weights))

    def bits(self, mse: float) -> float:
        """Bits a feature point at a mean squared error; 0 from the source's variance on."""
        if mse >= float((self.weights * self.variances).sum()):
            return 0.0
        low, high = 0.0, float(self.variances.max())
        for _ in range(_HALVINGS):
            water = (low + high) / 2
            if float((self.weights * np.minimum(self.variances, water)).sum()) < mse:
                low = water
            else:
                high = water
        ratios = np.maximum(self.variances / high, 1.0)
        return float((self.weights * 0.5 * np.log2(ratios)).sum())
