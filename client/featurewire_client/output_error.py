"""What decoded features cost a task: features and the tail behind them in, an error out."""

from typing import Any

import numpy as np
import torch
from featurewire_models import Features, Tail
from numpy.typing import NDArray
from torch import Tensor

_OUTPUTS = ("sentence_embedding", "predicted_depth", "images", "logits", "last_hidden_state")
PROBABILITIES = ("generation", "classification")  # tasks whose outputs are logits


def task_output(outputs: Any) -> Tensor | None:
    """The tensor of a tail's outputs that its task is about; None if there is none."""
    found: list[Tensor] = [
        value for name in _OUTPUTS if isinstance(value := getattr(outputs, name, None), Tensor)
    ]
    return found[0] if found else None


class OutputError:
    """How far a tail's output moves when one tensor of a sample is not what the head made."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._samples: list[tuple[Features, int]] = []

    def add(self, features: Features) -> None:
        """Remembers a batch; each of its rows is a sample."""
        rows = features.batch
        self._samples += [(features, row) for row in range(rows)]

    def measure(self, name: str, number: int, decoded: NDArray[np.float32]) -> float:
        """The error of sample `number` with the tensor `name` as decoded, float32 [tokens, C].

        Where the task is about probabilities, their Kullback-Leibler divergence in nats from what
        the exact features give; elsewhere the squared difference of the outputs, summed.
        """
        features, row = self._samples[number]
        tensor = features.tensors[name].clone()
        tensor[row] = torch.from_numpy(decoded).to(tensor)
        tensors = {**features.tensors, name: tensor}
        moved = Features(tensors, features.grids, features.uncoded)
        with torch.inference_mode():
            exact, other = (task_output(self._tail(each)) for each in (features, moved))
        if exact is None or other is None:
            return 0.0
        if self._tail.task in PROBABILITIES:
            known, found = exact.float().log_softmax(-1), other.float().log_softmax(-1)
            return float((known.exp() * (known - found)).sum(dtype=torch.float64))
        return float(((exact.float() - other.float()) ** 2).sum(dtype=torch.float64))
