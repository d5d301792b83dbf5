"""A source: features to calibrate on, others to test on, and a metric of the task they serve."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from featurewire_codec import Profile
from numpy.typing import NDArray

Array = NDArray[np.float32]
Grid = tuple[int, int]
Decoded = Sequence[Sequence[Array]]  # of each part, of each test sample
MAX_COUNTED = 1 << 23  # calibration values that tables are counted on: enough for any of them


@dataclass(frozen=True, eq=False)
class Part:
    """One named tensor of a split point; samples are float32 [tokens, channels].

    grid: (rows, columns) of the calibration samples, test_grid of the tests; tokens before them
    belong to no place. shipped: a profile that comes with the model; else one is calibrated here.
    scale: the energy to set steps by, where the samples' own would mislead (giants).
    """

    name: str
    calibration: Sequence[Array]
    tests: Sequence[Array]
    grid: Grid | None = None
    test_grid: Grid | None = None
    shipped: Profile | None = None
    scale: float | None = None

    @cached_property
    def counted(self) -> Sequence[Array]:
        """Calibration samples evenly spread, some eight million values of them at most."""
        total = sum(sample.size for sample in self.calibration)
        return self.calibration[:: -(-total // MAX_COUNTED)]

    @cached_property
    def energy(self) -> float:
        """The mean over channels of the variance of the calibration samples."""
        if self.scale is not None:
            return self.scale
        return float(np.concatenate(self.counted).var(axis=0, dtype=np.float64).mean()) or 1.0

    def step(self, snr_db: float) -> float:
        """The step whose uniform quantisation error has that SNR at high rate."""
        return float(np.sqrt(12 * self.energy * 10 ** (-snr_db / 10)))


@dataclass(frozen=True)
class Source:
    """One column of the results.

    group: what `--sources` calls it. title: at most a few words. note: what calibrates and tests.
    metric: its name, a comma, its unit; score: the metric of decoded tests; unsplit: of the
    features as they were.
    """

    group: str
    title: str
    note: str
    parts: Sequence[Part]
    metric: str | None = None
    score: Callable[[Decoded], float] | None = None

    @property
    def points(self) -> int:
        """Feature points of all tests."""
        return sum(sample.size for part in self.parts for sample in part.tests)

    @property
    def unsplit(self) -> float | None:
        """The metric where nothing is coded."""
        return self.score([part.tests for part in self.parts]) if self.score else None
