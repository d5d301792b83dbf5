"""A plan as the commands make it: a model, a server and inputs in; predictions, or a split, out."""

import sys
from typing import TYPE_CHECKING, Any

from featurewire.wire.runtime import run

from featurewire_client.progress import steps

if TYPE_CHECKING:
    from featurewire_client.plan import Plan

AUTO = "auto"
_RUNS = 2


def one_row(task: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs whose answer is what a caller sees: of a language model, the last row of logits."""
    import torch

    return {**inputs, "logits_to_keep": torch.tensor(1)} if task == "generation" else inputs


def chosen_split(
    split: str | None,
    model: str,
    server: str,
    task: str,
    inputs: dict[str, Any],
    **options: Any,
) -> str | None:
    """The split point itself; for "auto" the one that a plan finds, whose reason goes to stderr.

    `options`: of the client, as it will send.
    """
    if split != AUTO:
        return split
    from featurewire_client.plan import reason

    found = run(planned(model, server, task, inputs, _RUNS, **options))
    print(reason(found), file=sys.stderr)
    return found.best.split


async def planned(
    model: str, server: str, task: str, inputs: Any, runs: int, snr_db: float, **options: Any
) -> "Plan":
    """Measures over the link as it is, and predicts every split point that the server serves."""
    from featurewire_models import describe

    from featurewire_client.client import SplitClient
    from featurewire_client.plan import make_plan
    from featurewire_client.quality import Budget
    from featurewire_client.route import Route

    def make_client(split: str) -> SplitClient:
        budget = Budget(least_snr_db=snr_db, most_snr_db=snr_db)
        given = {"snr_db": snr_db, "budget": budget, **options}
        return SplitClient(server, model, split=split, task=task, **given)

    connection = await Route(server).connect(timeout_s=10)
    splits = list(connection.model(describe(model).name).splits)
    await connection.channel.close()
    with steps(len(splits)) as begin:
        return await make_plan(make_client, splits, inputs, runs, begin)
