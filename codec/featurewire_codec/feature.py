"""The edge of the codec: any float tensor or array in, a checked float32 array out.

Also the energy E of a feature, the zero of the SNR scale: `target MSE = E * 10^(-snr_db/10)`.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import FeatureError

if TYPE_CHECKING:
    import torch

Feature: TypeAlias = "torch.Tensor | NDArray[Any]"

# A value further from its channel's median than this many robust standard deviations is a giant
# (a massive activation): it is coded by an escape, and sets the scale of nothing.
ESCAPE_LIMIT = 60.0
# Below this number of tokens a mean for each channel would take in most of the feature itself.
MIN_TOKENS_FOR_CHANNEL_MEANS = 8
# A constant feature has no variance; its energy is then this fraction of its power (100 dB down).
ENERGY_FLOOR = 1e-10
MIN_ENERGY, MAX_ENERGY = 1e-37, 1e37  # a float32 holds it


def as_array(feature: "Feature") -> NDArray[np.float32]:
    """Take a feature to a contiguous float32 array [tokens, channels] in main memory.

    `feature` is a numpy array or torch tensor of any float type, on any device, contiguous or not.

    Raises:
        FeatureError: not two-dimensional, empty, not of a float type, or not finite in float32.
    """
    if not isinstance(feature, np.ndarray):  # a torch tensor, known without importing torch
        if not feature.dtype.is_floating_point:
            raise FeatureError(f"a feature has a float type, this one is {feature.dtype}")
        array: NDArray[Any] = feature.detach().to("cpu").float().numpy()
    else:
        array = feature
        if array.dtype.kind != "f":
            raise FeatureError(f"a feature has a float type, this one is {array.dtype}")
    if array.ndim != 2:
        raise FeatureError(f"a feature is [tokens, channels], this one has shape {array.shape}")
    if array.size == 0:
        raise FeatureError(f"a feature has at least one value, this one has shape {array.shape}")
    with np.errstate(over="ignore"):
        floats: NDArray[np.float32] = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(floats).all():
        bad = int(floats.size - np.isfinite(floats).sum())
        raise FeatureError(f"a feature is finite in float32, this one has {bad} NaN or infinities")
    return floats


def clip_giants(feature: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pull every giant of [tokens, channels] back to the escape limit around its channel median."""
    centre = np.median(feature, axis=0) if _has_channel_means(feature) else np.median(feature)
    deviation = feature - centre
    limit = ESCAPE_LIMIT * 1.4826 * float(np.median(np.abs(deviation)))
    if limit == 0.0:  # more than half of the values are one number: no scale to judge giants by
        return feature
    clipped: NDArray[np.float32] = centre + np.clip(deviation, -limit, limit)
    return clipped.astype(np.float32)


def energy(feature: NDArray[np.float32]) -> float:
    """Return E of [tokens, channels]: the mean over channels of the variance, giants clipped.

    The variance is about the channel's mean, or about the single mean of all values when there are
    fewer than 8 tokens. E is above zero for every feature, so that a step can follow from it.

    Raises:
        FeatureError: the energy is beyond what a header can hold.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # such an energy is refused below
        clipped = clip_giants(feature).astype(np.float64)
        mean = clipped.mean(axis=0) if _has_channel_means(feature) else clipped.mean()
        power = float(np.mean(clipped**2))
        variance = float(np.mean((clipped - mean) ** 2))
    scale = max(variance, ENERGY_FLOOR * power) or 1.0
    if not MIN_ENERGY <= scale <= MAX_ENERGY:
        raise FeatureError(
            f"the feature has an energy of {scale:.3g}, {MIN_ENERGY:g} to {MAX_ENERGY:g} is coded: "
            "scale it"
        )
    return scale


def _has_channel_means(feature: NDArray[np.float32]) -> bool:
    return len(feature) >= MIN_TOKENS_FOR_CHANNEL_MEANS
