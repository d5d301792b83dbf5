"""The task weight: what a task's loss is sensitive to in, a linear map of the channels out.

To second order an error e of a token costs the task e^T G e, where G is the expected outer product
of the loss's gradients with respect to a token: a quadratic distortion as in J. Li, N. Chaddha and
R. M. Gray, "Asymptotic performance of vector quantizers with a perceptual distortion measure"
(IEEE Transactions on Information Theory, 1999). Coding x S with white error and undoing S puts
error where the task minds it least; S = G^(1/2) would be the optimum for that distortion, but
gradients know the loss only near the feature itself: G^(1/4), half the strength, measured better on
the task, and costs less in plain squared error.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import FeatureError

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]

FLOOR = 0.1  # of the mean eigenvalue, added to each: no direction counts for nothing
_TOLERANCE = 1e-3  # of the largest value: what rounding does to symmetry and signs
_INVERSION_TOLERANCE = 1e-2


@dataclass(frozen=True, eq=False)
class TaskWeight:
    """float32[C, C] each: features are coded as `x @ matrix`, and `@ inverse` undoes it."""

    matrix: Floats
    inverse: Floats

    def check(self) -> None:
        """Raise ValueError unless one is the inverse of the other."""
        probe = np.cos(np.arange(len(self.matrix), dtype=np.float32))
        with np.errstate(over="ignore", invalid="ignore"):
            undone = (probe @ self.matrix) @ self.inverse
            if not np.abs(undone - probe).max() < _INVERSION_TOLERANCE:
                raise ValueError("weight_inverse is not the inverse of weight")


def checked_metric(metric: "torch.Tensor | NDArray[Any]", channels: int) -> NDArray[np.float64]:
    """Return a metric as float64[C, C], its mean eigenvalue 1.

    Raises:
        FeatureError: it has another shape, is not finite, not symmetric or not positive
            semi-definite, or is zero.
    """
    array = metric if isinstance(metric, np.ndarray) else metric.detach().cpu().double().numpy()
    if array.shape != (channels, channels) or array.dtype.kind != "f":
        raise FeatureError(
            f"a metric is floats [channels, channels], here of shape ({channels}, {channels}), "
            f"this one is {array.dtype} of shape {array.shape}"
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise FeatureError("a metric is finite, this one is not")
    if np.abs(array - array.T).max() > _TOLERANCE * np.abs(array).max():
        raise FeatureError("a metric is symmetric, this one is not")
    mean = float(np.trace(array)) / channels
    if not mean > 0.0:
        raise FeatureError("a metric is positive semi-definite and not zero, this one is not")
    scaled: NDArray[np.float64] = (array + array.T) / (2.0 * mean)
    return scaled


def half_strength(metric: NDArray[np.float64]) -> TaskWeight:
    """Return S = (G + floor)^(1/4) and its inverse for a metric as `checked_metric` returns it.

    Scaled so that white error in x S is, undone, an error of the same mean square: a step means the
    same with and without a weight.

    Raises:
        FeatureError: the metric is not positive semi-definite.
    """
    import torch

    values, vectors = torch.linalg.eigh(torch.from_numpy(metric))
    largest = float(values[-1])
    if float(values[0]) < -_TOLERANCE * largest:
        raise FeatureError(
            f"a metric is positive semi-definite, this one has eigenvalues from "
            f"{float(values[0] / largest):.3g} to 1 of the largest"
        )
    strength = (values.clamp_min(0.0) + FLOOR) ** 0.25
    strength *= torch.sqrt(torch.mean(strength**-2))
    return TaskWeight(
        ((vectors * strength) @ vectors.T).float().numpy(),
        ((vectors / strength) @ vectors.T).float().numpy(),
    )
