"""What a head hands to its tail, and nothing else does: named tensors, some of them to be coded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from featurewire_models.errors import InputError


@dataclass(frozen=True)
class Features:
    """The intermediate features of one batch at one split point.

    ``tensors``: ``[batch, tokens, channels]`` floats each, the ones worth coding.
    ``grids``: (rows, cols) of a tensor whose last ``rows * cols`` tokens are an image's patches in
    row-major order; tokens before them (CLS, registers) belong to no place.
    ``uncoded``: small tensors that travel as they are (masks, positions, pooled vectors).
    """

    tensors: Mapping[str, Tensor]
    grids: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    uncoded: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """How many samples."""
        return len(next(iter(self.tensors.values())))


def require(features: Features, name: str, channels: int) -> Tensor:
    """The tensor of that name, ``[batch, tokens, channels]``; InputError when it is not such."""
    if name not in features.tensors:
        found = ", ".join(sorted(features.tensors)) or "none"
        raise InputError(f"The tail needs a feature called {name} but was given {found}.")
    tensor = features.tensors[name]
    if tensor.dim() != 3 or tensor.shape[-1] != channels or not tensor.is_floating_point():
        raise InputError(
            f"Feature {name} must hold floats of shape [batch, tokens, {channels}], "
            f"not {tensor.dtype} of shape {list(tensor.shape)}."
        )
    return tensor
