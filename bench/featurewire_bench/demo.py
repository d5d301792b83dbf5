"""The demo: a server, an emulated link and an edge client in; a table, pictures and JSON out."""

import asyncio
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from featurewire_bench.account import Row, Run
from featurewire_bench.link import LinkConfig
from featurewire_bench.measurement import THREADS, Way, run_workload
from featurewire_bench.process import ServerProcess
from featurewire_bench.relay import Relay
from featurewire_bench.workload import Workload

SNR_DB = 25.0  # features this close to the head's own leave every task's metric where it was
Progress = Callable[[str], None]  # told what begins


@dataclass(frozen=True)
class DemoConfig:
    """What the demo runs over and how closely features are kept."""

    link: LinkConfig
    snr_db: float = SNR_DB


@dataclass(frozen=True)
class Comparison:
    """One workload, run three ways; outputs are in the order of the samples."""

    workload: Workload
    ours: Run
    float16: Run
    unsplit_value: float
    outputs: Sequence[Any]
    unsplit: Sequence[Any]

    @property
    def remark(self) -> str:
        """What to say below the table."""
        return self.workload.remark(self.outputs, self.unsplit)

    @property
    def row(self) -> Row:
        """The table's line."""
        return Row.of(self.ours, self.float16, self.unsplit_value)


async def run_demo(
    config: DemoConfig, workloads: Sequence[Workload], progress: Progress
) -> list[Comparison]:
    """Runs every workload over one server and one link.

    Raises:
        BenchError: the server does not start.
        ClientError, ModelError, CodecError: a request fails.
    """
    models = list(dict.fromkeys(workload.model for workload in workloads))
    torch.set_num_threads(THREADS)
    server = ServerProcess(models, ["--threads", str(THREADS)])
    starting = asyncio.create_task(asyncio.to_thread(server.__enter__))
    try:
        progress("unsplit models, while the server starts")
        unsplit = [await asyncio.to_thread(workload.unsplit) for workload in workloads]
        await starting
        link = config.link
        relay = Relay(server.address, link.rate_mbit, link.rtt_ms, link.jitter_ms)
        async with relay:
            return [
                await _compare(config, workload, outputs, relay.address, progress)
                for workload, outputs in zip(workloads, unsplit, strict=True)
            ]
    finally:
        await asyncio.wait([starting])
        await asyncio.to_thread(server.__exit__)


async def _compare(
    config: DemoConfig,
    workload: Workload,
    unsplit: Sequence[Any],
    address: str,
    progress: Progress,
) -> Comparison:
    progress(f"{workload.model}: {workload.title}")
    ways = (Way("featurewire", config.snr_db), Way("float16"))
    (ours, outputs), (plain, _) = await run_workload(workload, address, ways, config.link)
    return Comparison(workload, ours, plain, workload.score(unsplit), outputs, unsplit)


def remarks(comparisons: Sequence[Comparison]) -> str:
    """What to say below the table, a line for all tasks of which the same is to be said."""
    tasks: dict[str, list[str]] = {}
    for comparison in comparisons:
        tasks.setdefault(comparison.remark, []).append(comparison.workload.title)
    return "\n".join(f"{', '.join(names)}: {remark}" for remark, names in tasks.items())


def document(config: DemoConfig, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """demo.json: the table's rows, and beside them where they come from."""
    return {
        "rows": [asdict(comparison.row) for comparison in comparisons],
        "link": asdict(config.link),
        "snr_db": config.snr_db,
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "runs": [asdict(run) for c in comparisons for run in (c.ours, c.float16)],
    }


def write_json(path: Path, content: Any) -> None:
    """Writes JSON; ValueError for a figure that is not finite."""
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
