"""A model's outputs as named tensors: what crosses the wire back to the client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class Outputs(dict[str, Tensor]):
    """Named tensors that are also attributes: ``outputs.logits``."""

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"These outputs hold {sorted(self)}, not {name}.") from None


def outputs_to_tensors(outputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors among a tail's or a model's outputs, by name; caches stay behind."""
    return {name: value for name, value in outputs.items() if isinstance(value, Tensor)}


def tensors_to_outputs(tensors: Mapping[str, Tensor]) -> Outputs:
    """The inverse of outputs_to_tensors, with attribute access again."""
    return Outputs(tensors)
