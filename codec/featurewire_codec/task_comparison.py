"""Whether a task weight is worth it: a profile without and one with it in, what each costs out.

Both are compared by the bytes that held-out samples take at the same error of the task. Where
nothing measures that, the metric G stands in: the mean over their tokens of e^T G e, e being a
token's error. It is what the task minds to second order, and promises more than the task gains.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .codec import FeatureCodec
from .errors import FeatureError
from .profile import Profile
from .transform import Floats

# The error that a task makes when sample number i is replaced by what was decoded of it.
TaskError = Callable[[int, Floats], float]

MIN_GAIN = 0.02  # of the bits; less is within what a metric is off by
_ATTEMPTS = 6
_NEAR_DB = 0.03
_FLATTEST = 0.2  # dB of error for a dB of SNR
_FARTHEST_DB = 30.0  # from the SNR that is searched around


@dataclass(frozen=True, eq=False)
class TaskComparison:
    """What profiles are compared by: held-out samples by number, and what measures the error.

    metric: float64[C, C]; only used where there is no `task_error`.
    """

    metric: NDArray[np.float64]
    task_error: TaskError | None
    arrays: dict[int, Floats]
    grid: tuple[int, int] | None
    snr_db: tuple[float, ...]

    def report(self, plain: tuple[str, Profile], weighted: tuple[str, Profile]) -> dict[str, Any]:
        """Measure two named profiles, and say which should be kept and why.

        The weighted one at the errors that the plain one has at the SNRs.
        """
        coded = [self._code(plain[1], snr_db) for snr_db in self.snr_db]
        rates = {
            plain[0]: [bpfp for bpfp, _ in coded],
            weighted[0]: [
                self._bpfp_at(weighted[1], snr_db, error)
                for snr_db, (_, error) in zip(self.snr_db, coded, strict=True)
            ],
        }
        gain = 1.0 - sum(rates[weighted[0]]) / sum(rates[plain[0]])
        return {
            "kept": gain > MIN_GAIN,
            "because": f"at the same error {self._by}, {weighted[0]} takes {100 * gain:.1f} % "
            f"fewer bits than {plain[0]}; more than {100 * MIN_GAIN:g} % are worth it",
            "bpfp_at_equal_error": {
                name: dict(zip(map(str, self.snr_db), measured, strict=True))
                for name, measured in rates.items()
            },
        }

    @property
    def _by(self) -> str:
        return "of the task" if self.task_error else "by the metric"

    def _bpfp_at(self, profile: Profile, snr_db: float, error: float) -> float:
        """Return the bits that the samples take at an error.

        Found by secants, then between the two measured SNRs that are nearest.
        """
        points: list[tuple[float, float, float]] = []  # dB beyond the error; SNR; bits
        tried = snr_db
        for _ in range(_ATTEMPTS):
            bpfp, reached = self._code(profile, tried)
            points.append((10.0 * float(np.log10(reached / error)), tried, bpfp))
            points.sort(key=lambda point: abs(point[0]))
            nearest = points[0]
            if abs(nearest[0]) < _NEAR_DB:
                break
            slope = -1.0
            if len(points) > 1:
                slope = (points[1][0] - nearest[0]) / (points[1][1] - nearest[1])
            wanted = nearest[1] + nearest[0] / max(-slope, _FLATTEST)
            tried = float(np.clip(wanted, snr_db - _FARTHEST_DB, snr_db + _FARTHEST_DB))
            if tried in (point[1] for point in points):
                break
        ends = sorted(points[:2])
        return float(np.interp(0.0, [end[0] for end in ends], [end[2] for end in ends]))

    def _code(self, profile: Profile, snr_db: float) -> tuple[float, float]:
        """Encode and decode the samples: bits and the error, per feature point."""
        codec, metric = FeatureCodec(profile), self.metric.astype(np.float32)
        coded, error = 0, 0.0
        for number, array in self.arrays.items():
            data = codec.encode(array, snr_db, self.grid)
            decoded = codec.decode(data).numpy()
            coded += len(data)
            if self.task_error is not None:
                error += _number(self.task_error(number, decoded))
            else:
                missed = decoded - array
                error += float(np.sum((missed @ metric) * missed, dtype=np.float64))
        features = sum(array.size for array in self.arrays.values())
        return 8 * coded / features, max(error, 1e-300) / features


def _number(error: float) -> float:
    if not isinstance(error, int | float | np.number) or not 0.0 <= error < float("inf"):
        raise FeatureError(f"task_error gave {error!r}, finite numbers from zero on are allowed")
    return float(error)
