"""What a task minds: features and the tail behind them in, a metric for each tensor out.

The metric is the mean outer product of gradients with respect to a token: of the log-probability of
what the model itself would say, where it says probabilities, which is the Fisher information; of
random projections of its outputs elsewhere, which is Hutchinson's estimate of J^T J ("A stochastic
estimator of the trace of the influence matrix", 1989), J being the outputs' derivative.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from featurewire_models import Features, Tail, TaskError
from torch import Tensor

from featurewire_client.output_error import task_output

_DRAWS = 2  # of tokens, or of signs, for one input


@dataclass
class TaskMetric:
    """A running sum [channels, channels] for each tensor: no gradient is kept.

    Tokens and signs are drawn from `seed`.
    """

    tail: Tail
    seed: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = torch.Generator().manual_seed(self.seed)

    def add(self, features: Features) -> None:
        """Runs the tail forward and back for one batch.

        Raises:
            TaskError: the tail cannot be differentiated.
            ModelError: it does not take the features.
        """
        with torch.inference_mode(False), torch.enable_grad():
            tensors = {
                name: tensor.detach().clone().float().requires_grad_()
                for name, tensor in features.tensors.items()
            }
            uncoded = {name: tensor.clone() for name, tensor in features.uncoded.items()}
            outputs = self.tail.differentiable(Features(tensors, features.grids, uncoded))
            for scalar in self._scalars(outputs):
                gradients = torch.autograd.grad(
                    scalar, list(tensors.values()), retain_graph=True, allow_unused=True
                )
                for name, gradient in zip(tensors, gradients, strict=True):
                    if gradient is not None:
                        self._accumulate(name, gradient)

    def metric(self, name: str) -> Tensor | None:
        """float64 [channels, channels], of any scale; None where no output depends on it."""
        metric = self.sums.get(name)
        return metric if metric is not None and metric.any() else None

    def _accumulate(self, name: str, gradient: Tensor) -> None:
        rows = gradient.reshape(-1, gradient.shape[-1]).float()
        total = self.sums.setdefault(name, torch.zeros(2 * rows.shape[1:], dtype=torch.float64))
        total += (rows.T @ rows).cpu()

    def _scalars(self, outputs: Any) -> Iterator[Tensor]:
        """What to take the gradients of, one after the other."""
        output = self._output(outputs)
        task = self.tail.task
        if task == "classification":
            yield output.log_softmax(-1).amax(-1).sum()
            return
        for _ in range(_DRAWS):
            if task == "generation":
                chances = output.detach().softmax(-1).flatten(0, -2).cpu()
                said = torch.multinomial(chances, 1, generator=self._random).to(output.device)
                yield output.log_softmax(-1).flatten(0, -2).gather(1, said).sum()
            else:
                signs = torch.randint(0, 2, output.shape, generator=self._random)
                yield (output * (2.0 * signs - 1.0).to(output.device, output.dtype)).sum()

    def _output(self, outputs: Any) -> Tensor:
        output = task_output(outputs)
        if output is not None and output.requires_grad:
            return output
        raise TaskError(
            f"The tail of {self.tail.info.name} after {self.tail.split} cannot be differentiated, "
            "so nothing tells what its task minds; calibrate without --task-aware."
        )
