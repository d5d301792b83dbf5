"""Whether a task weight is worth it: transforms with and without it in, the better one out.

Both are compared by the bytes that held-out samples take at the same error for the task: the mean
over their tokens of e^T G e, G being the metric and e a token's error.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .codec import MIN_SNR_DB, FeatureCodec
from .fitting import Arrays
from .profile import Profile

MIN_GAIN = 0.02  # of the bits; less is within what a metric is off by
_ATTEMPTS = 6
_NEAR_DB = 0.03
_FLATTEST, _FARTHEST_DB = 0.2, 15.0  # dB of error for a dB of SNR; of one step of the search


@dataclass(frozen=True)
class Coded:
    """What samples came to: bits per feature point, and the task's error per feature point."""

    bpfp: float
    error: float


class TaskSelection:
    """Measures transforms against one without a weight, and keeps the best."""

    def __init__(
        self,
        metric: NDArray[np.float64],
        arrays: Arrays,
        grid: tuple[int, int] | None,
        reference: tuple[str, Profile],
        snr_db: tuple[float, ...],
    ) -> None:
        """`reference` is compared with at its errors for these SNRs; `arrays` are held out."""
        self._metric = metric.astype(np.float32)
        self._arrays, self._grid = arrays, grid
        name, profile = reference
        self._snr_db = snr_db
        self._wanted = [self._code(profile, each) for each in snr_db]
        self._rates = {name: [coded.bpfp for coded in self._wanted]}
        self._reference, self.kept = name, reference

    def try_profile(self, name: str, profile: Profile) -> None:
        """Measure a profile with a weight; keep it when it is the best so far."""
        rates = [
            self._bpfp(profile, each, wanted)
            for each, wanted in zip(self._snr_db, self._wanted, strict=True)
        ]
        best, plain = sum(self._rates[self.kept[0]]), sum(self._rates[self._reference])
        if sum(rates) < min(best, (1.0 - MIN_GAIN) * plain):
            self.kept = name, profile
        self._rates[name] = rates

    def report(self) -> dict[str, Any]:
        """Say what was measured, what was kept, and why."""
        sums = {name: sum(rates) for name, rates in self._rates.items()}
        weighted = [name for name in sums if name != self._reference]
        kept, best = self.kept[0] != self._reference, min(weighted, key=sums.__getitem__)
        percent = 100.0 * (sums[best] / sums[self._reference] - 1.0)
        return {
            "kept": kept,
            "because": f"at the same error for the task, {best} takes {percent:+.1f} % of the bits "
            f"of {self._reference}; {-100 * MIN_GAIN:g} % or less is kept",
            "bpfp_at_equal_task_error": {
                name: dict(zip(map(str, self._snr_db), rates, strict=True))
                for name, rates in self._rates.items()
            },
        }

    def _bpfp(self, profile: Profile, snr_db: float, wanted: Coded) -> float:
        """Code the samples to the task's error that is wanted: the bits it takes.

        Found by secants, then between the two measured SNRs that are nearest.
        """
        points: list[
            tuple[float, float, float]
        ] = []  # dB of error beyond what is wanted; SNR, bits
        for _ in range(_ATTEMPTS):
            coded = self._code(profile, snr_db)
            excess_db = 10.0 * float(np.log10(coded.error / wanted.error))
            points.append((excess_db, snr_db, coded.bpfp))
            points.sort(key=lambda point: abs(point[0]))
            if abs(points[0][0]) < _NEAR_DB:
                break
            slope = -1.0
            if len(points) > 1:
                slope = (points[1][0] - points[0][0]) / (points[1][1] - points[0][1])
            change = -points[0][0] / min(slope, -_FLATTEST)
            snr_db = max(
                MIN_SNR_DB, points[0][1] + float(np.clip(change, -_FARTHEST_DB, _FARTHEST_DB))
            )
        nearest = sorted(points[:2])
        errors, rates = [point[0] for point in nearest], [point[2] for point in nearest]
        return float(np.interp(0.0, errors, rates))

    def _code(self, profile: Profile, snr_db: float) -> Coded:
        codec = FeatureCodec(profile)
        coded, error = 0, 0.0
        for array in self._arrays:
            data = codec.encode(array, snr_db, self._grid)
            missed = codec.decode(data).numpy() - array
            coded += len(data)
            error += float(np.sum((missed @ self._metric) * missed, dtype=np.float64))
        features = sum(array.size for array in self._arrays)
        return Coded(8 * coded / features, max(error, 1e-300) / features)
