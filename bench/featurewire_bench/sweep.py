"""Workloads x links x ways to send, measured: a grid in, one run for each of its points out."""

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from featurewire.wire.limits import CODECS, TUNABLE_CODECS

from featurewire_bench.account import Run
from featurewire_bench.errors import LinkError
from featurewire_bench.link import LinkConfig
from featurewire_bench.measurement import THREADS, Way, run_workload
from featurewire_bench.process import ServerProcess
from featurewire_bench.relay import Relay
from featurewire_bench.workload import Workload


@dataclass(frozen=True)
class Grid:
    """What is crossed with what."""

    workloads: Sequence[Workload]
    links: Sequence[LinkConfig]
    ways: Sequence[Way]


def ways(codecs: Sequence[str], snrs_db: Sequence[float]) -> list[Way]:
    """Each codec once, and one with a quality knob once for each setting.

    Raises:
        LinkError: a codec that the wire does not carry.
    """
    for codec in codecs:
        if codec not in CODECS:
            raise LinkError(f"codec is {codec!r}; it must be one of {', '.join(CODECS)}")
    return [
        Way(codec, snr_db)
        for codec in codecs
        for snr_db in (snrs_db if codec in TUNABLE_CODECS else snrs_db[:1])
    ]


async def run_sweep(grid: Grid, progress: Callable[[str], None]) -> list[Run]:
    """Measures every point of the grid over one server, one relay for each link.

    Raises:
        BenchError: the server does not start.
        ClientError, ModelError, CodecError: a request fails.
    """
    models = list(dict.fromkeys(workload.model for workload in grid.workloads))
    runs = list[Run]()
    torch.set_num_threads(THREADS)
    with ServerProcess(models, ["--threads", str(THREADS)]) as server:
        for link in grid.links:
            async with Relay(server.address, link.rate_mbit, link.rtt_ms, link.jitter_ms) as relay:
                for workload in grid.workloads:
                    progress(f"{link.rate_mbit:g} Mbit/s, {workload.model}: {workload.title}")
                    measured = await run_workload(workload, relay.address, grid.ways, link)
                    runs += [run for run, _ in measured]
    return runs


def flat(run: Run) -> dict[str, object]:
    """A run as one level of columns: stages become head_ms, encode_ms ..."""
    record = asdict(run)
    stages = record.pop("ms")
    return {**record, **{f"{stage}_ms": value for stage, value in stages.items()}}


def write_csv(path: Path, runs: Sequence[Run]) -> None:
    """One line a run under a line of names."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(flat(runs[0])))
        writer.writeheader()
        writer.writerows(flat(run) for run in runs)
