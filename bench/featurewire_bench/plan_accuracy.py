"""How near predictions come: plans over several links, and what runs at their split points took."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median, mode
from typing import Any

from featurewire_client import SplitClient
from featurewire_client.connection import connected
from featurewire_client.plan import Plan
from featurewire_client.planner import Inference, Text, Work, make_plan
from featurewire_client.raw_input import sample_input
from featurewire_client.split_cost import SplitCost
from featurewire_client.stats import InferStats
from featurewire_models import describe, load_processor

from featurewire_bench.overlap import LAST
from featurewire_bench.process import ServerProcess
from featurewire_bench.relay import Relay

TURNS = 3  # plans and their runs: the machine's speed wanders between them, too


@dataclass(frozen=True)
class Figure:
    """Milliseconds as predicted, and the median of runs; of the turn whose error is the median."""

    predicted_ms: float
    measured_ms: float

    @property
    def error(self) -> float:
        """0.1: predicted a tenth too long."""
        return self.predicted_ms / self.measured_ms - 1


@dataclass(frozen=True)
class Predicted:
    """One split point over one link.

    Attributes:
        is_best: the choice of most plans.
        total: an inference, or a text with all its tokens.
        first, token: of a text, up to its first token and each one after it; else None.
    """

    model: str
    rate_mbit: float
    split: str
    is_best: bool
    total: Figure
    first: Figure | None = None
    token: Figure | None = None


def sample_work(model: str, task: str, tokens: int) -> Work:
    """An ordinary request; of a language model, a text of several spans and so many tokens more.

    0 tokens: the logits of its last one.
    """
    processor: Any = load_processor(model, task)
    if task != "generation":
        return Inference(processor.inputs(sample_input(task)))
    prompt = (describe(model).path / "samples" / "passage.txt").read_text(encoding="utf-8")
    inputs = processor.inputs(prompt)
    if not tokens:
        return Inference(inputs | LAST)
    return Text(prompt, inputs["input_ids"], tokens)


async def run_plan_accuracy(
    model: str,
    task: str,
    work: Work,
    splits: Sequence[str],
    rates_mbit: Sequence[float],
    rtt_ms: float,
    snr_db: float,
    runs: int,
    progress: Callable[[str], None],
) -> list[Predicted]:
    """Plans over each link, and after each plan runs at each of the split points.

    Raises:
        BenchError: the server does not start.
        ClientError, ModelError, CodecError: a request fails.
    """
    rows = list[Predicted]()
    with ServerProcess([model], ["--threads", "1"]) as server:
        for rate in rates_mbit:
            progress(f"plan of {model}, {rate:g} Mbit/s")
            async with Relay(server.address, rate, rtt_ms) as link:
                address = link.address

                def client_of(split: str, address: str = address) -> SplitClient:
                    return SplitClient(address, model, split, task, snr_db=snr_db)

                turns = []
                for _ in range(TURNS):
                    async with connected(address, timeout_s=10) as connection:
                        plan = await make_plan(
                            connection, client_of, splits, work, runs, lambda _: None
                        )
                    turn = []
                    for cost in plan.costs:
                        async with client_of(cost.split) as client:
                            took = [await _run(client, work) for _ in range(runs + 1)][1:]
                        turn.append(_row(model, rate, plan, cost, took))
                    turns.append(turn)
                rows += _middle(turns)
    return rows


def _middle(turns: Sequence[Sequence[Predicted]]) -> list[Predicted]:
    """Of each split point, and of each of its figures, the turn of the median error."""
    best = mode(row.split for turn in turns for row in turn if row.is_best)

    def middle(figures: Iterable[Figure | None]) -> Figure | None:
        known = sorted((one for one in figures if one), key=lambda figure: figure.error)
        return known[len(known) // 2] if known else None

    rows = []
    for every in zip(*turns, strict=True):
        total = middle(row.total for row in every)
        assert total is not None
        first, token = middle(row.first for row in every), middle(row.token for row in every)
        is_best = every[0].split == best
        rows.append(replace(every[0], is_best=is_best, total=total, first=first, token=token))
    return rows


async def _run(client: SplitClient, work: Work) -> InferStats:
    if isinstance(work, Inference):
        return (await client.infer(work.inputs)).stats
    async for _ in client.generate(work.prompt, max_tokens=work.tokens):
        pass
    assert client.last_stats is not None
    return client.last_stats


def _row(
    model: str, rate: float, plan: Plan, cost: SplitCost, took: Sequence[InferStats]
) -> Predicted:
    best, link = cost is plan.best, plan.link
    tokens = max(took[0].tokens, 1)  # the model may end a text early
    total = Figure(cost.total_ms(link, tokens), median(one.total_ms for one in took))
    if cost.token is None or tokens < 2:
        return Predicted(model, rate, cost.split, best, total)
    later = median((one.total_ms - one.first_token_ms) / (tokens - 1) for one in took)
    return Predicted(
        model,
        rate,
        cost.split,
        best,
        total,
        first=Figure(cost.request.total_ms(link), median(one.first_token_ms for one in took)),
        token=Figure(cost.token.total_ms(link), later),
    )
