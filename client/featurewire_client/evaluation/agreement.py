"""A task's metric without labels: what a tail makes of uncoded features is the truth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from featurewire_models import Processor
from torch import Tensor

from featurewire_client.evaluation import metrics

_ROWS = 256  # tokens at once: a vocabulary's logits of a long text are gigabytes


@dataclass
class TokenMetric:
    """`agree`: share of places where the same next token is likeliest. `kl`: nats a token.

    The latter is the mean Kullback-Leibler divergence of the chances from the true ones.
    """

    same: int = 0
    nats: float = 0.0
    count: int = 0

    def add(self, answer: Tensor, truth: Tensor) -> None:
        """Both logits [tokens, vocabulary] of one text, any float type."""
        for ours, true in zip(*(torch.split(each, _ROWS) for each in (answer, truth)), strict=True):
            found, known = (each.float().log_softmax(-1) for each in (ours, true))
            self.same += int((found.argmax(-1) == known.argmax(-1)).sum())
            self.nats += float((known.exp() * (known - found)).sum(dtype=torch.float64))
        self.count += len(truth)

    def values(self) -> dict[str, float]:
        shares = {"agree": self.same, "kl": self.nats}
        return {name: metrics.ratio(part, self.count) for name, part in shares.items()}


@dataclass
class StateMetric:
    """`cosine` of a token's state with the true one: the mean over all tokens, and its `least`."""

    cosines: float = 0.0
    least: float = 1.0
    count: int = 0

    def add(self, answer: Tensor, truth: Tensor) -> None:
        """Both [tokens, channels], any float type."""
        cosines = torch.cosine_similarity(answer.float(), truth.float(), dim=-1)
        self.cosines += float(cosines.sum(dtype=torch.float64))
        self.least = min(self.least, float(cosines.min()))
        self.count += len(truth)

    def values(self) -> dict[str, float]:
        mean = metrics.ratio(self.cosines, self.count)
        return {"cosine": mean, "least": self.least if self.count else np.nan}


@dataclass(frozen=True)
class Agreement:
    """How two outputs of a tail, of one input each, are compared.

    Attributes:
        metric: makes running sums, empty.
        answer: of the outputs, what the metric is given as the answer.
        truth: of the answer to uncoded features, what it is given as the truth.
    """

    metric: Callable[[], metrics.Metric]
    answer: Callable[[Any], Any]
    truth: Callable[[Any], Any] = lambda answer: answer


def make_agreement(task: str, processor: Processor) -> Agreement:
    """What compares outputs of a model's task; `processor` is `load_processor`'s for it."""
    if task == "generation":
        return Agreement(TokenMetric, lambda outputs: outputs.logits[0])
    if task == "classification":
        return Agreement(
            metrics.ClassMetric,
            lambda outputs: outputs.logits[0].float().cpu().numpy(),
            lambda scores: int(scores.argmax()),
        )
    kinds: dict[str, type[metrics.Metric]] = {
        "segmentation": metrics.SegmentationMetric,
        "depth": metrics.DepthMetric,
        "text-to-image": metrics.ImageMetric,
        "embedding": metrics.EmbeddingMetric,
    }
    if task in kinds:
        return Agreement(kinds[task], lambda outputs: np.asarray(processor.result(outputs)))
    return Agreement(StateMetric, lambda outputs: outputs.last_hidden_state[0])
