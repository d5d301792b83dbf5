"""Split points: where a model is cut. ``layers.k`` leaves the first k blocks to the head."""

from __future__ import annotations

import re

from featurewire_models.errors import SplitError


def layer_splits(layers: int) -> tuple[str, ...]:
    """Every split point of a stack of blocks, from ``layers.0`` to ``layers.<layers>``."""
    return tuple(f"layers.{count}" for count in range(layers + 1))


def layers_before(split: str) -> int:
    """How many blocks the head of ``layers.k`` holds."""
    return int(split.removeprefix("layers."))


def check_split(split: str, allowed: tuple[str, ...], name: str) -> str:
    """The split point itself, or SplitError naming those that the model ``name`` has."""
    if split in allowed:
        return split
    layered = re.fullmatch(r"layers\.\d+", allowed[0]) is not None
    choice = f"{allowed[0]} to {allowed[-1]}" if layered else " or ".join(allowed)
    raise SplitError(f"{name} has no split point {split!r}; it can be split at {choice}.")
