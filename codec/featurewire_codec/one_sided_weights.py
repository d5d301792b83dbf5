"""The one-sided mode's channel weights, and the tensors of a profile that hold them."""

import functools
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .entropy_coder import Table
from .one_sided_mixture import SHARES, mix_tables, own_mixture
from .one_sided_tables import CLASSES, KINDS, SHAPES, Tables, index_bits, load_one_sided
from .quantiser import midpoint_thresholds, rounding_thresholds

MAX_CHANNELS = 1024  # beyond it channels are not predicted from channels; sums stay within 2^53
MAX_GROUPS = 64
MAX_WEIGHT = 1 << 13
MAX_GAIN = 1 << 12


@dataclass(frozen=True, eq=False)
class ChannelWeights:
    """A profile's prediction of channels from neighbours, and from channels in earlier groups.

    order int32[channels]: the channels as they are decoded; all else is in that order.
    bounds: where each group begins, and the end. value int32[7, channels, 4]: by kind of pass, the
    weights of what predicts a channel, in 2^-10. matrix int16[7, channels, channels], in 2^-12: how
    much of an earlier channel's miss to add; zero from a group's own channels on; empty where there
    is one group. gain int32[7, channels], in 2^-8: what remains of the expected error.
    shape uint8[channels]: how what is left is distributed, one of two ways that have cells of their
    own. mixture uint8[128, 3]: for each class of cells two frozen tables, and how many eighths the
    second one has in what codes it.
    """

    order: NDArray[np.int32]
    bounds: tuple[int, ...]
    value: NDArray[np.int32]
    matrix: NDArray[np.int16]
    gain: NDArray[np.int32]
    shape: NDArray[np.uint8]
    mixture: NDArray[np.uint8] = field(default_factory=own_mixture)

    @functools.cached_property
    def matrix_by_source(self) -> NDArray[np.float32]:
        """`matrix` with the earlier channel first: float32[7, channels, channels]."""
        return np.ascontiguousarray(self.matrix.transpose(0, 2, 1), np.float32)

    @functools.cached_property
    def tables(self) -> Tables:
        """The tables of the classes, mixed of the frozen ones."""
        return mix_tables(load_one_sided()[1], self.mixture)

    @functools.cached_property
    def models(self) -> tuple[Table, ...]:
        """The tables as the entropy coder takes them."""
        return tuple(map(Table, self.tables.classes))

    def thresholds(self, bit_worth: float | None) -> NDArray[np.float32]:
        """Return the rounding thresholds for a worth of a bit; None rounds to the nearest index."""
        return _thresholds(self, bit_worth)


@functools.lru_cache(maxsize=32)
def _thresholds(weights: ChannelWeights, bit_worth: float | None) -> NDArray[np.float32]:
    """Every chunk asks for the same few."""
    if bit_worth is None:
        return midpoint_thresholds(CLASSES)
    return rounding_thresholds(index_bits(weights.tables), weights.tables.centroids, bit_worth)


# The tensors of a profile by name, each with the field that it holds.
_FIELDS = {
    "order": "order",
    "bounds": "bounds",
    "neighbour_weights": "value",
    "channel_weights": "matrix",
    "gains": "gain",
    "shapes": "shape",
    "mixture": "mixture",
}
WEIGHT_KINDS: dict[str, type] = dict.fromkeys(_FIELDS, np.int32) | {
    "channel_weights": np.int16,
    "shapes": np.uint8,
    "mixture": np.uint8,
}


def weight_tensors(weights: ChannelWeights) -> dict[str, NDArray[Any]]:
    """Return the tensors that a profile keeps."""
    return {
        name: np.array(getattr(weights, field), WEIGHT_KINDS[name])
        for name, field in _FIELDS.items()
    }


def weight_shapes(channels: int, bounds: int) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Return the shapes that each tensor may have; with one group no channel predicts another."""
    between = channels if bounds > 2 else 0
    return {
        "order": ((channels,),),
        "bounds": ((bounds,),),
        "neighbour_weights": ((KINDS, channels, 4),),
        "channel_weights": ((KINDS, channels, between),),
        "gains": ((KINDS, channels),),
        "shapes": ((channels,),),
        "mixture": ((CLASSES, 3),),
    }


def weights_of(tensors: dict[str, NDArray[Any]]) -> ChannelWeights:
    """Undo `weight_tensors`; ValueError says what is wrong."""
    fields: dict[str, Any] = {field: tensors[name] for name, field in _FIELDS.items()}
    bounds = tuple(tensors["bounds"].tolist())
    weights = ChannelWeights(**fields | {"bounds": bounds})
    channels = len(weights.order)
    if sorted(weights.order.tolist()) != list(range(channels)):
        raise ValueError("the order of the channels is no permutation")
    rising = all(start < end for start, end in pairwise(bounds))
    whole = len(bounds) >= 2 and (bounds[0], bounds[-1]) == (0, channels)
    if not (whole and rising and len(bounds) <= MAX_GROUPS + 1):
        raise ValueError(f"groups of channels with the bounds {bounds[:9]}")
    if len(bounds) > 2 and channels > MAX_CHANNELS:
        raise ValueError(f"{channels} channels in groups, {MAX_CHANNELS} are allowed")
    if weights.value.min() < -MAX_WEIGHT or weights.value.max() > MAX_WEIGHT:
        raise ValueError(f"weights of neighbours beyond {MAX_WEIGHT}")
    if not (weights.gain.min() >= 1 and weights.gain.max() <= MAX_GAIN):
        raise ValueError(f"gains that are not within 1 to {MAX_GAIN}")
    if weights.shape.max() >= SHAPES:
        raise ValueError(f"shapes that are not within 0 to {SHAPES - 1}")
    if weights.mixture[:, :2].max() >= CLASSES or weights.mixture[:, 2].max() >= SHARES:
        raise ValueError(f"a mixture of tables beyond {CLASSES - 1}, or shares beyond {SHARES - 1}")
    return weights
