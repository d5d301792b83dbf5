"""Where to split: inputs run at every split point over the real link, the best one named."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from featurewire_client.client import SplitClient
from featurewire_client.stats import InferStats


@dataclass(frozen=True)
class SplitCost:
    """What one split point costs, medians over the runs, and whether it has a profile."""

    split: str
    profiled: bool
    sent_bytes: int
    head_ms: float
    encode_ms: float
    network_ms: float
    decode_ms: float
    tail_ms: float
    total_ms: float


async def measure(
    make_client: Callable[[str], SplitClient],
    splits: Sequence[str],
    inputs: dict[str, torch.Tensor],
    runs: int,
    begin: Callable[[str], None],
) -> list[SplitCost]:
    """Runs the inputs split at each point; the first run of each only warms up.

    Args:
        make_client: a client for a split point.
        begin: called with each split point before it runs.

    Raises:
        ClientError, ModelError, CodecError: as `SplitClient.infer`.
    """
    costs = []
    for split in splits:
        begin(split)
        async with make_client(split) as client:
            await client.infer(inputs)
            stats = [(await client.infer(inputs)).stats for _ in range(runs)]
        costs.append(_cost(split, client.profiled, stats))
    return costs


def _cost(split: str, profiled: bool, stats: list[InferStats]) -> SplitCost:
    return SplitCost(
        split,
        profiled,
        int(median(one.sent_bytes for one in stats)),
        head_ms=median(one.head_ms for one in stats),
        encode_ms=median(one.encode_ms for one in stats),
        network_ms=median(one.network_ms for one in stats),
        decode_ms=median(one.decode_ms for one in stats),
        tail_ms=median(one.tail_ms for one in stats),
        total_ms=median(one.total_ms for one in stats),
    )


def best(costs: Sequence[SplitCost]) -> SplitCost:
    """The split point with the shortest total."""
    return min(costs, key=lambda cost: cost.total_ms)


def reason(costs: Sequence[SplitCost]) -> str:
    """One sentence: the best split point, and what the runner-up would cost more."""
    first = best(costs)
    others = [cost for cost in costs if cost is not first]
    if not others:
        return f"{first.split} is the only split point: {first.total_ms:.1f} ms."
    second = best(others)
    stages = ("head", "encode", "network", "decode", "tail")
    gains = {
        stage: getattr(second, f"{stage}_ms") - getattr(first, f"{stage}_ms") for stage in stages
    }
    stage = max(gains, key=lambda name: gains[name])
    return (
        f"Split at {first.split}: {first.total_ms:.1f} ms in all. Next is {second.split} with"
        f" {second.total_ms:.1f} ms, mostly {gains[stage]:.1f} ms more of {stage}."
    )
