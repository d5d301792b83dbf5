"""Features as passes of a tail take them: several as one, and parted again; a large one cut."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from featurewire_models.features import Features
from featurewire_models.halves import Tail


def stacking_key(tail: Tail, features: Features) -> Hashable | None:
    """What features have in common that can be one batch; None: this one goes alone."""
    tensors = [*features.tensors.values(), *features.uncoded.values()]
    batches = {len(tensor) for tensor in tensors if tensor.dim()}
    if not set(features.uncoded) <= tail.per_sample or len(batches) != 1:
        return None
    shapes = (
        (name, tensor.dtype, tuple(tensor.shape[1:]))
        for part in (features.tensors, features.uncoded)
        for name, tensor in part.items()
    )
    return (tuple(shapes), tuple(features.grids.items()))


def stack(features: Sequence[Features]) -> Features:
    """Features of one key as one batch."""
    first = features[0]
    tensors, uncoded = (
        {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        for parts in ([f.tensors for f in features], [f.uncoded for f in features])
    )
    return Features(tensors, first.grids, uncoded)


def cut_batch(tail: Tail, features: Features, samples: int) -> list[Features]:
    """A batch as batches of so many samples at most, whose outputs follow one another.

    As it is, where something uncoded makes outputs of all samples together, as labels do a loss.
    """
    batch, rows = features.batch, set(features.uncoded) - tail.of_all
    alike = (features.uncoded[name].shape[:1] == (batch,) for name in rows)
    if batch <= samples or not (rows <= tail.per_sample and all(alike)):
        return [features]
    return [
        Features(
            {name: tensor[start : start + samples] for name, tensor in features.tensors.items()},
            features.grids,
            {
                name: tensor[start : start + samples] if name in rows else tensor
                for name, tensor in features.uncoded.items()
            },
        )
        for start in range(0, batch, samples)
    ]


def join_tokens(features: Sequence[Features]) -> Features:
    """Features of tokens that follow one another, with nothing uncoded, as one of all of them."""
    tensors = {
        name: torch.cat([feature.tensors[name] for feature in features], dim=1)
        for name in features[0].tensors
    }
    return Features(tensors)


def part(outputs: Mapping[str, Tensor], batches: Sequence[int]) -> list[dict[str, Tensor]]:
    """The outputs of each feature, whose batches had these sizes.

    Raises:
        ValueError: an output has no row for each sample.
    """
    total = sum(batches)
    for name, tensor in outputs.items():
        if not tensor.dim() or len(tensor) != total:
            raise ValueError(f"the output {name} has shape {list(tensor.shape)}, not {total} rows")
    split = {name: torch.split(tensor, list(batches)) for name, tensor in outputs.items()}
    return [{name: rows[number] for name, rows in split.items()} for number in range(len(batches))]
