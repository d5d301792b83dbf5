"""How near predictions come: a plan over several links, and what runs at its split points took."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from featurewire_client import Budget, SplitClient
from featurewire_client.plan import make_plan
from featurewire_client.raw_input import sample_input
from featurewire_models import describe, load_processor

from featurewire_bench.process import ServerProcess
from featurewire_bench.relay import Relay

RUNS = 5


@dataclass(frozen=True)
class Predicted:
    """One split point over one link: milliseconds as predicted, and the median of runs."""

    model: str
    rate_mbit: float
    split: str
    predicted_ms: float
    measured_ms: float
    is_best: bool

    @property
    def error(self) -> float:
        """0.1: predicted a tenth too long."""
        return self.predicted_ms / self.measured_ms - 1


async def run_plan_accuracy(
    model: str,
    task: str,
    rates_mbit: Sequence[float],
    rtt_ms: float,
    snr_db: float,
    progress: Callable[[str], None],
) -> list[Predicted]:
    """Plans over each link, then runs at every split point.

    Raises:
        BenchError: the server does not start.
        ClientError, ModelError, CodecError: a request fails.
    """
    inputs = load_processor(model, task).inputs(sample_input(task))  # type: ignore[arg-type]
    splits, rows = describe(model).splits, list[Predicted]()
    with ServerProcess([model], ["--threads", "1"]) as server:
        for rate in rates_mbit:
            progress(f"plan of {model}, {rate:g} Mbit/s")
            async with Relay(server.address, rate, rtt_ms) as link:
                address = link.address

                def probing(split: str, address: str = address) -> SplitClient:
                    budget = Budget(least_snr_db=snr_db, most_snr_db=snr_db)
                    return SplitClient(address, model, split, task, snr_db=snr_db, budget=budget)

                plan = await make_plan(probing, splits, inputs, RUNS, lambda split: None)
                for cost in plan.costs:
                    async with SplitClient(
                        address, model, cost.split, task, snr_db=snr_db
                    ) as client:
                        await client.infer(inputs)
                        times = [(await client.infer(inputs)).stats.total_ms for _ in range(RUNS)]
                    best = cost is plan.best
                    rows.append(
                        Predicted(model, rate, cost.split, cost.total_ms, median(times), best)
                    )
    return rows
