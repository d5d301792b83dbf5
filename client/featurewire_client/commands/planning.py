"""A plan as the commands make it: a model, a server and work in; predictions out."""

from typing import TYPE_CHECKING, Any

from featurewire_client.progress import steps

if TYPE_CHECKING:
    from featurewire_client.plan import Plan
    from featurewire_client.planner import Work

AUTO = "auto"


def one_row(task: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs whose answer is what a caller sees: of a language model, the last row of logits."""
    import torch

    return {**inputs, "logits_to_keep": torch.tensor(1)} if task == "generation" else inputs


def text_work(model: str, prompt: str, max_tokens: int) -> "Work":
    """A text to continue, to plan for: by so many tokens, or as many as the context has room for.

    Raises:
        ModelError: there is no such model, or it cannot take the prompt.
    """
    from featurewire_models import describe, load_processor

    from featurewire_client.planner import Text

    processor: Any = load_processor(model, "generation")
    ids, context = processor.inputs(prompt)["input_ids"], describe(model).context
    if context is None:
        return Text(prompt, ids, max_tokens)
    room = context - ids.shape[1] + 1
    return Text(prompt, ids, min(max_tokens, room), room)


async def planned(
    model: str, server: str, task: str, work: "Work", runs: int, **options: Any
) -> "Plan":
    """Measures over the link as it is, and predicts every split point that the server serves."""
    from featurewire_models import describe

    from featurewire_client.client import SplitClient
    from featurewire_client.connection import connected
    from featurewire_client.planner import make_plan

    def make_client(split: str) -> SplitClient:
        return SplitClient(server, model, split=split, task=task, **options)

    async with connected(server, timeout_s=10) as connection:
        splits = list(connection.model(describe(model).name).splits)
        with steps(len(splits)) as begin:
            return await make_plan(connection, make_client, splits, work, runs, begin)
