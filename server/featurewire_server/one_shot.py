"""One-shot requests that share a pass: features of one shape in, the outputs of each out."""

from collections.abc import Sequence

import torch
from featurewire_models import Features, Tail, outputs_to_tensors
from featurewire_models.stacked import part, stack
from featurewire_models.transfer import Download

Outputs = dict[str, torch.Tensor]


def run_together(features: Sequence[Features], tail: Tail) -> list[Outputs | Exception]:
    """Runs the tail once for all; one by one where that fails, so that each has its own error."""
    if len(features) > 1:
        try:
            batches = [one.batch for one in features]
            return list(part(_outputs(tail, stack(features)), batches))
        except Exception:
            pass
    outcomes: list[Outputs | Exception] = []
    for one in features:
        try:
            outcomes.append(_outputs(tail, one))
        except Exception as error:
            outcomes.append(error)
    return outcomes


def _outputs(tail: Tail, features: Features) -> Outputs:
    """What the tail gives, in main memory: no other thread waits for a GPU."""
    return Download(outputs_to_tensors(tail(features))).wait()
