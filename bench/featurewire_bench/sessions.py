"""What sessions reach: overlap with the ideal pipeline, load, predictions; tables out."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from featurewire_client.raw_input import sample_input
from featurewire_models import describe, load_processor

from featurewire_bench.load import Load, run_load
from featurewire_bench.overlap import Overlap, run_overlap
from featurewire_bench.plan_accuracy import Figure, Predicted, run_plan_accuracy, sample_work
from featurewire_bench.random_models import random_dinov2

OVERLAP_MBIT = (10.0, 50.0, 200.0)
PLAN_MBIT = (1.0, 10.0, 100.0)
PLAN_RUNS, PLAN_TOKENS = 5, 16
PLANNED = (  # and how many tokens to generate, of a language model
    ("tiny-dinov2", "classification", 0),
    ("tiny-llama3", "generation", PLAN_TOKENS),
    ("tiny-llama3", "generation", 0),
    ("tiny-sd3", "text-to-image", 0),
)
MODEL, TASK = "tiny-dinov2", "classification"
CHANNELS = (192, 384)  # of ViT-Tiny and ViT-Small
THREADS = (1, 2)


@dataclass(frozen=True)
class Sessions:
    """The three parts."""

    overlap: list[Overlap]
    load: list[Load]
    plan: list[Predicted]

    def as_dict(self) -> dict[str, Any]:
        """Every figure, for JSON."""
        return asdict(self)


async def run_sessions(
    rtt_ms: float, snr_db: float, clients: int, seconds: float, progress: Callable[[str], None]
) -> Sessions:
    """Measures all of it.

    Raises:
        BenchError: a server does not start.
        ClientError, ModelError, CodecError: a request fails.
    """
    overlap = await run_overlap(OVERLAP_MBIT, rtt_ms, snr_db, progress)
    load = await _loads(clients, seconds, progress)
    return Sessions(overlap, load, await run_plans(rtt_ms, snr_db, progress))


async def run_plans(
    rtt_ms: float, snr_db: float, progress: Callable[[str], None]
) -> list[Predicted]:
    """A plan of each bundled model over each link, and runs beside it.

    Raises:
        BenchError: a server does not start.
        ClientError, ModelError, CodecError: a request fails.
    """
    torch.set_num_threads(1)  # the server has the other core
    rows = []
    for model, task, tokens in PLANNED:
        work = sample_work(model, task, tokens)
        splits = describe(model).splits
        found = await run_plan_accuracy(
            model, task, work, splits, PLAN_MBIT, rtt_ms, snr_db, PLAN_RUNS, progress
        )
        inferred = task == "generation" and not tokens
        rows += [replace(row, model=f"{model}, inferred") if inferred else row for row in found]
    return rows


async def _loads(clients: int, seconds: float, progress: Callable[[str], None]) -> list[Load]:
    """The small bundled model, and some of larger ViTs' widths and half their depth."""
    loads = []
    with tempfile.TemporaryDirectory() as folder:
        larger = [random_dinov2(Path(folder), channels, 6, 224) for channels in CHANNELS]
        processor: Any = load_processor(MODEL, TASK)
        pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
        for model, split, inputs in (
            (MODEL, None, processor.inputs(sample_input(TASK))),
            *((str(model), "layers.1", {"pixel_values": pixels}) for model in larger),
        ):
            for threads in THREADS:
                progress(f"{clients} clients of {Path(model).name}, {threads} threads")
                load = await run_load(model, split, TASK, inputs, clients, seconds, threads)
                loads.append(replace(load, model=Path(model).name))
    return loads


def report(found: Sessions) -> str:
    """All tables as Markdown."""
    overlap = _table(
        ["request", "Mbit/s", "bytes", "one after the other, ms", "ideal, ms", "measured, ms",
         "over ideal", "ideal of idle cores, ms", "over that"],
        [[row.what, f"{row.rate_mbit:g}", str(row.sent_bytes), f"{row.sum_ms:.0f}",
          f"{row.ideal_ms:.0f}", f"{row.measured_ms:.0f}", f"{row.over_ideal - 1:+.0%}",
          f"{row.idle_ideal_ms:.0f}", f"{row.over_idle_ideal - 1:+.0%}"]
         for row in found.overlap],
    )  # fmt: skip
    load = _table(
        ["model", "clients", "threads of the tail", "bare tail, requests/s", "in batches",
         "served", "of batches", "p50, ms", "p99, ms"],
        [[row.model, str(row.clients), str(row.threads), f"{row.bare_alone:.3g}",
          f"{row.bare_batched:.3g}", f"{row.served:.3g}", f"{row.of_bare:.0%}",
          f"{row.p50_ms:.0f}", f"{row.p99_ms:.0f}"]
         for row in found.load],
    )  # fmt: skip
    parts = (("Overlap", overlap), ("Load", load), ("Predictions", plans_table(found.plan)))
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in parts) + "\n"


def plans_table(rows: Sequence[Predicted]) -> str:
    """Predicted, measured and error in one cell each; the plans' choices in bold."""
    return _table(
        ["model", "Mbit/s", "split point", "first token", "each token", "in all"],
        [
            [
                row.model,
                f"{row.rate_mbit:g}",
                f"**{row.split}**" if row.is_best else row.split,
                *map(_figure, (row.first, row.token, row.total)),
            ]
            for row in rows
        ],
    )


def _figure(figure: Figure | None) -> str:
    if figure is None:
        return ""
    digits = 1 if figure.measured_ms < 100 else 0
    predicted, measured = (f"{ms:.{digits}f}" for ms in (figure.predicted_ms, figure.measured_ms))
    return f"{predicted} / {measured}, {figure.error:+.0%}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))
