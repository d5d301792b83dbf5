"""`featurewire calibrate`: profiles learned from the features of one's own data."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from featurewire_client.commands.options import Device, Dtype, Json, ModelName, TaskName
from featurewire_client.progress import steps


def calibrate(
    model: ModelName,
    split: Annotated[str, typer.Option(help="Split point to learn a profile for.")],
    data: Annotated[Path, typer.Option(help="Folder of images or text files; or a text file.")],
    out: Annotated[Path, typer.Option(help="Folder to write the profiles into.")],
    task: TaskName = None,
    limit: Annotated[int, typer.Option(min=2, help="Inputs to run at most.")] = 512,
    task_aware: Annotated[
        bool,
        typer.Option(
            "--task-aware",
            help="Spend bits on what the task minds, from gradients through the tail, where "
            "held-out samples measure better for it. Reads the tail too, and takes longer.",
        ),
    ] = False,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Learns profiles from the features that the head makes of one's own data.

    Example: featurewire calibrate tiny-llama3 --split layers.4 --data texts/ --out profile/
    Example: featurewire calibrate ./minilm --split layers.3 --data texts/ --out p/ --task-aware
    """
    from featurewire_client import calibration

    started = time.perf_counter()
    with steps(limit + 1) as begin:
        learned = calibration.calibrate(
            model, split, task, data, limit, begin, task_aware, dtype, device
        )
    learned.save_pretrained(out)
    report = calibration.report(learned)
    if as_json:
        print(json.dumps({"digest": learned.digest, "profiles": report}))
        return
    Console().print(_table(report))
    for name, figures in report.items():
        if "task" in figures:
            print(f"{name}: {figures['task']['because']}")
    seconds = time.perf_counter() - started
    print(f"profiles {learned.digest[:12]} in {out}, after {seconds:.1f} s")
    print(f"serve them with: featurewire-server --model {model} --profile {out}")


def _table(report: dict[str, Any]) -> Table:
    """Bits per feature point of every mode that was tried, on held-out samples."""
    table = Table("tensor", "transform", title="bits per feature point on held-out samples")
    for snr_db in next(iter(next(iter(report.values()))["bpfp_by_mode_and_snr_db"].values())):
        table.add_column(f"{float(snr_db):g} dB", justify="right")
    for name, figures in report.items():
        for mode, rates in figures["bpfp_by_mode_and_snr_db"].items():
            kept = mode == figures["kept"]
            cells = (f"{rate:.3f}" for rate in rates.values())
            table.add_row(name, f"{mode}, kept" if kept else mode, *cells)
    return table
