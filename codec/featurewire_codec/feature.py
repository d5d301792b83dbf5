"""The edge of the codec: any float tensor or array in, a checked float32 array out.

Also the energy E of a feature, the zero of the SNR scale: `target MSE = E * 10^(-snr_db/10)`.
"""

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import CodecError, FeatureError
from .floats import widen

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
BOUNDS_OF_MANY = 1 << 22  # values of a calibration that its bounds are taken from
_BOUNDS_OF_ONE = 1 << 16  # values of one feature that its bounds are taken from
MIN_ENERGY, MAX_ENERGY = 1e-37, 1e37  # a float32 holds it


def as_array(feature: "Feature") -> NDArray[np.float32]:
    """Take a feature to a contiguous float32 array [tokens, channels] in main memory.

    `feature` is a numpy array or torch tensor of any float type, on any device, contiguous or not.

    Raises:
        FeatureError: no array, not two-dimensional, empty, not of a float type, or not finite in
            float32.
    """
    checked_shape(feature)
    if not isinstance(feature, np.ndarray):  # a torch tensor, known without importing torch
        if not feature.dtype.is_floating_point:
            raise FeatureError(f"a feature has a float type, this one is {feature.dtype}")
        try:
            array: NDArray[Any] = feature.detach().to("cpu").float().numpy()
        except (NotImplementedError, TypeError) as error:
            kind = f"{feature.layout} tensor on {feature.device}"
            raise FeatureError(
                f"a feature's values can be read, not so those of a {kind}"
            ) from error
    else:
        array = feature
        if array.dtype.kind != "f":
            raise FeatureError(f"a feature has a float type, this one is {array.dtype}")
    if array.ndim != 2:
        raise FeatureError(f"a feature is [tokens, channels], this one has shape {array.shape}")
    if array.size == 0:
        raise FeatureError(f"a feature has at least one value, this one has shape {array.shape}")
    floats, finite = widen(array)
    if not finite:
        bad = int(floats.size - np.isfinite(floats).sum())
        raise FeatureError(f"a feature is finite in float32, this one has {bad} NaN or infinities")
    return floats


def check_size(feature: "Feature", most: int) -> None:
    """Refuse a feature of more than `most` values before anything is converted.

    Raises:
        FeatureError: it has more, or is no array.
    """
    shape = checked_shape(feature)
    if math.prod(shape) > most:
        raise FeatureError(f"a feature of shape {shape} is beyond {most} values")


def checked_shape(array: "Feature", what: str = "feature") -> tuple[int, ...]:
    """Return the shape of what is to be an array.

    Raises:
        FeatureError: it is none.
    """
    shape = getattr(array, "shape", None)
    if shape is None:
        kind = type(array).__name__
        raise FeatureError(f"a {what} is a numpy array or a torch tensor, this one is a {kind}")
    return tuple(shape)


def pair_of(
    name: str, given: tuple[int, int] | None, error: type[CodecError]
) -> tuple[int, int] | None:
    """Return two whole numbers, given as any sequence; None is none.

    Raises:
        error: they are not two, or not whole.
    """
    if given is None:
        return None
    try:
        first, second = map(operator.index, given)
    except (TypeError, ValueError):
        raise error(f"{name} is {given!r}, two whole numbers are allowed") from None
    return first, second


class Bounds(NamedTuple):
    """Within which a value is no giant: float32[channels] each."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def clip(self, feature: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pull the giants of [tokens, channels] back to the bounds; without any, the same array."""
        if (feature >= self.low).all() and (feature <= self.high).all():
            return feature
        return np.clip(feature, self.low, self.high)


def giant_bounds(features: Sequence[NDArray[np.float32]], values: int) -> Bounds:
    """Find the escape limit around each channel's median, from about so many spread `values`."""
    total = sum(feature.size for feature in features)
    stride = max(1, total // values)
    some = np.concatenate([feature[number % stride :: stride] for number, feature in
                           enumerate(features)])  # fmt: skip
    if len(some) < MIN_TOKENS_FOR_CHANNEL_MEANS:
        some = features[0] if len(features) == 1 else np.concatenate(features)
    with np.errstate(over="ignore", invalid="ignore"):  # such an energy is refused
        centre = np.full(some.shape[1], np.median(some), np.float32)
        if _has_channel_means(some):
            centre = np.median(some, axis=0).astype(np.float32)
        limit = np.float32(ESCAPE_LIMIT * 1.4826 * float(np.median(np.abs(some - centre))))
        if limit == 0.0:  # more than half of the values are one number: nothing to judge giants by
            limit = np.float32(np.inf)
        return Bounds(centre - limit, centre + limit)


def energy(feature: NDArray[np.float32]) -> float:
    """Return E of [tokens, channels]: the mean over channels of the variance, giants clipped.

    The variance is about the channel's mean, or about the single mean of all values when there are
    fewer than 8 tokens. E is above zero for every feature, so that a step can follow from it.

    Raises:
        FeatureError: the energy is beyond what a header can hold.
    """
    return pooled_energy([feature], giant_bounds([feature], _BOUNDS_OF_ONE))


def pooled_energy(features: Sequence[NDArray[np.float32]], bounds: Bounds) -> float:
    """Return E of all features together, their giants clipped to `bounds`; see `energy`."""
    channels = features[0].shape[1]
    count = sum(len(feature) for feature in features)
    total, squares = np.zeros(channels), np.zeros(channels)
    with np.errstate(over="ignore", invalid="ignore"):  # such an energy is refused below
        for feature in features:
            total += bounds.clip(feature).sum(axis=0, dtype=np.float64)
        mean = total / count if count >= MIN_TOKENS_FOR_CHANNEL_MEANS else total.mean() / count
        for feature in features:
            centred = bounds.clip(feature) - np.asarray(mean, np.float32)
            squares += (centred * centred).sum(axis=0, dtype=np.float64)
        variance = float(squares.mean()) / count
        power = variance + float(np.mean(np.square(mean)))
    scale = max(variance, ENERGY_FLOOR * power) or 1.0
    if not MIN_ENERGY <= scale <= MAX_ENERGY:
        raise FeatureError(
            f"the feature has an energy of {scale:.3g}, {MIN_ENERGY:g} to {MAX_ENERGY:g} is coded: "
            "scale it"
        )
    return scale


def _has_channel_means(feature: NDArray[np.float32]) -> bool:
    return len(feature) >= MIN_TOKENS_FOR_CHANNEL_MEANS
