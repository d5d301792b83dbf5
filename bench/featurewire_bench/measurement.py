"""Workloads through clients over a link: a workload and ways to send it in, their runs out."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from featurewire.wire.limits import TUNABLE_CODECS
from featurewire_client import InferStats, SplitClient

from featurewire_bench.account import Run
from featurewire_bench.link import LinkConfig
from featurewire_bench.workload import Workload

# CPU threads of the edge's and of the cloud's torch: small models gain nothing from more, and the
# two share a machine here, where threads that wait for each other would measure the scheduler
THREADS = 1
FEWEST = 3  # inferences that a median is taken of; fewer samples are run again


@dataclass(frozen=True)
class Way:
    """How features cross the link."""

    codec: str  # one of the wire's
    snr_db: float = 25.0  # of those with this knob

    @property
    def asked_snr_db(self) -> float | None:
        """The knob's setting, None for a codec without it."""
        return self.snr_db if self.codec in TUNABLE_CODECS else None


@dataclass
class _Trial:
    """One way's open client, and what came of it so far."""

    client: SplitClient
    outputs: list[Any] = field(default_factory=list)
    stats: list[InferStats] = field(default_factory=list)


async def run_workload(
    workload: Workload, address: str, ways: Sequence[Way], link: LinkConfig
) -> list[tuple[Run, list[Any]]]:
    """Runs every sample in every way, each way in a session of its own, after a warm-up.

    The ways take turns at each sample, so that a machine that is busy for a while is so for all.
    Returns, for each way, its run and the outputs of all samples in order.

    Raises:
        ClientError, ModelError, CodecError: a request fails.
    """
    async with AsyncExitStack() as stack:
        trials = []
        for way in ways:
            client = SplitClient(
                address,
                model=workload.model,
                task=workload.task,
                codec=way.codec,
                snr_db=way.snr_db,
            )
            trials.append(_Trial(await stack.enter_async_context(client)))
            await workload.warm_up(client)
        for number in range(max(workload.size, FEWEST)):
            for trial in trials:
                output = await workload.ask(trial.client, number % workload.size)
                assert trial.client.last_stats is not None
                trial.stats.append(trial.client.last_stats)
                if number < workload.size:
                    trial.outputs.append(output)
        return [
            (_run(workload, trial, way, link), trial.outputs)
            for trial, way in zip(trials, ways, strict=True)
        ]


def _run(workload: Workload, trial: _Trial, way: Way, link: LinkConfig) -> Run:
    return Run.of(
        trial.stats,
        model=workload.model,
        task=workload.title,
        split=trial.client.split,
        codec=way.codec,
        snr_db=way.asked_snr_db,
        rate_mbit=link.rate_mbit,
        rtt_ms=link.rtt_ms,
        metric=workload.metric,
        value=workload.score(trial.outputs),
    )
