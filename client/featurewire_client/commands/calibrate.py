"""`featurewire calibrate`: profiles learned from the features of one's own data."""

import json
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from featurewire_client.commands.options import Device, Dtype, Json, ModelName, TaskName
from featurewire_client.progress import phases

if TYPE_CHECKING:
    from featurewire_client.profile_quality import ProfileQuality


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
            "held-out samples measure better for it. Needs the tail, and takes longer.",
        ),
    ] = False,
    snr_db: Annotated[
        list[float] | None,
        typer.Option(
            min=-30,
            max=120,
            help="Quality in dB to measure the profile at, on inputs that were left out; several"
            " times for a row each.",
            show_default="5 to 30 in steps of 5",
        ),
    ] = None,
    tail: Annotated[
        bool,
        typer.Option(
            "--tail/--no-tail", help="Reads the tail too, to measure what the qualities cost it."
        ),
    ] = True,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Learns profiles from the features that the head makes of one's own data.

    Every fifth input, and 32 at most, is left out of what is learned, to say how good that is.

    Example: featurewire calibrate tiny-llama3 --split layers.4 --data texts/ --out profile/
    Example: featurewire calibrate ./minilm --split layers.3 --data texts/ --out p/ --task-aware
    """
    from featurewire_codec import CalibrationWarning

    from featurewire_client import calibration
    from featurewire_client.profile_quality import QUALITIES_DB

    if task_aware and not tail:
        raise typer.BadParameter("--task-aware runs the tail: no --no-tail")
    try:  # before anything is learned that could not be kept
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"the folder {out} cannot be made: {error.strerror}") from error
    qualities = snr_db or QUALITIES_DB
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught, phases() as begin:
        warnings.simplefilter("always", CalibrationWarning)
        learned, quality = calibration.calibrate(
            model, split, task, data, limit, begin, qualities, tail, task_aware, dtype, device
        )
    for warning in caught:
        print(f"featurewire: {warning.message}", file=sys.stderr)
    learned.save_pretrained(out)
    report = calibration.report(learned)
    if as_json:
        found = {"digest": learned.digest, "left_out": quality.as_dict(), "profiles": report}
        print(json.dumps(found))
        return
    console = Console()
    console.print(_table(report))
    if quality.rows:
        console.print(_quality_table(quality))
        print(*_explained(quality), sep="\n")
    else:
        print(quality.because)
    for name, figures in report.items():
        if "task" in figures:
            print(f"{name}: {figures['task']['because']}")
    seconds = time.perf_counter() - started
    print(f"profiles {learned.digest[:12]} in {out}, after {seconds:.1f} s")
    print(f"serve them with: featurewire-server --model {model} --profile {out}")


def _table(report: dict[str, Any]) -> Table:
    """Bits per feature point of every transform that was tried, on the samples that chose it."""
    table = Table("tensor", "transform", title="bits per feature point by transform")
    for snr_db in next(iter(next(iter(report.values()))["bpfp_by_mode_and_snr_db"].values())):
        table.add_column(f"{float(snr_db):g} dB", justify="right")
    for name, figures in report.items():
        for mode, rates in figures["bpfp_by_mode_and_snr_db"].items():
            kept = mode == figures["kept"]
            cells = (f"{rate:.3f}" for rate in rates.values())
            table.add_row(name, f"{mode}, kept" if kept else mode, *cells)
    return table


def _quality_table(quality: "ProfileQuality") -> Table:
    """A line for each quality; narrow enough for a terminal of 80."""
    rows = [row.as_dict() for row in quality.rows]
    names = list(rows[0]["metrics"])
    headings = ["\nBPFP", "\nSNR", *(name.replace("_", "\n") for name in names)]
    headings = [each if "\n" in each else f"\n{each}" for each in headings]
    headings += ["no profile\nBPFP"]
    title = f"on {quality.left_out} of {quality.inputs} inputs, left out"
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = [f"{row['bpfp']:.3f}", f"{row['reached_snr_db']:.1f}"]
        cells += [f"{row['metrics'][name]:.4f}" for name in names]
        table.add_row(f"{row['snr_db']:g} dB", *cells, f"{row['bpfp_without_profile']:.3f}")
    return table


def _explained(quality: "ProfileQuality") -> Iterator[str]:
    """What the profile saves, and what the task's figures are of."""
    rows = [row.as_dict() for row in quality.rows]
    times = [row["bpfp_without_profile"] / row["bpfp"] for row in rows]
    yield (
        f"no profile: self-describing bitstreams of the same error, {min(times):.1f} to"
        f" {max(times):.1f} times the bits"
    )
    if names := ", ".join(rows[0]["metrics"]):
        yield f"{names}: the tail's outputs, against those on features as they are"
