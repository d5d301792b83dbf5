"""`featurewire evaluate`: a task's own metric over a folder, split beside unsplit."""

import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from featurewire.wire.limits import TUNABLE_CODECS
from featurewire.wire.runtime import run
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from featurewire_client.commands.options import (
    Address,
    Codec,
    Device,
    Dtype,
    EffortChoice,
    Guidance,
    Json,
    ModelName,
    ProfileChoice,
    Seed,
    Split,
    Steps,
    Timeout,
    in_db,
)
from featurewire_client.commands.planning import AUTO
from featurewire_client.commands.sending import Sending
from featurewire_client.progress import steps as progress

if TYPE_CHECKING:
    from featurewire_client.evaluation.evaluation import Evaluation


def evaluate(
    model: ModelName,
    data: Annotated[
        Path,
        typer.Option(
            help="reasoning: .jsonl in ARC's format. classification: a folder for each class."
            " segmentation: images/ and annotations/ of the same names, PNGs of class numbers, 255"
            " for none. depth: images/ and depth/, PNGs of 16-bit millimetres or .npy of metres."
            " text-to-image, embedding: .txt with one text a line, or .jsonl with prompt,"
            " negative_prompt and seed."
        ),
    ],
    server: Address,
    task: Annotated[
        str | None,
        typer.Option(
            help="reasoning, classification, segmentation, depth, text-to-image or embedding.",
            show_default="the model's first",
        ),
    ] = None,
    split: Split = None,
    codec: Codec = "featurewire",
    snr_db: Annotated[
        list[float] | None,
        typer.Option(
            callback=in_db,
            help="Quality of the features in dB, -30 to 120; several times for a row each.",
            show_default="25",
        ),
    ] = None,
    effort: EffortChoice = "fast",
    profile: ProfileChoice = "server",
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Records at most, evenly from all.", show_default="all"),
    ] = None,
    unsplit: Annotated[
        bool,
        typer.Option(
            "--unsplit/--no-unsplit", help="Runs the whole model here too, to compare with."
        ),
    ] = True,
    seed: Seed = 0,
    steps: Steps = 20,
    guidance: Guidance = 4.0,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    timeout_s: Timeout = 60.0,
    as_json: Json = False,
) -> None:
    """A task's metric over a folder, through the service and unsplit, with bytes and times.

    reasoning: acc and acc_norm by log-likelihood. classification: top1, top5. segmentation: miou.
    depth: rmse, delta1. Against the unsplit model: text-to-image's psnr_db, embedding's cosine.

    Example: featurewire evaluate tiny-dinov2 --task depth --data rooms/ --server localhost:50051
    """
    from featurewire_models import (
        WeightsError,
        check_weights,
        describe,
        load_model,
        load_processor,
    )

    from featurewire_client.evaluation.evaluation import evaluate as run_all
    from featurewire_client.evaluation.evaluation import make_sample, spread
    from featurewire_client.evaluation.tasks import Settings, make_task, model_task

    qualities: list[float | None] = list(snr_db or [25.0])
    first = qualities[0] if qualities[0] is not None else 25.0
    sending = Sending(model, server, codec, first, effort, profile, dtype, device, timeout_s)
    if codec not in TUNABLE_CODECS:
        qualities = [None]
    chosen = describe(model).check_task(model_task(task))
    settings = Settings(steps, guidance, seed)
    name, chosen_task = make_task(chosen, load_processor(model, chosen), settings)
    if chosen_task.relative and not unsplit:
        raise typer.BadParameter(f"{name} is measured against the unsplit model: no --no-unsplit")
    records = spread(chosen_task.read(data), limit)
    if not unsplit:
        check_weights(model, "head", split if split != AUTO else None, chosen)
    else:
        try:
            check_weights(model, "whole", task=chosen)
        except WeightsError as error:
            said = f"{error} With --no-unsplit the head alone is read."
            raise WeightsError(said) from error
    if split == AUTO:
        from featurewire_client.planner import Inference

        sample = make_sample(chosen_task, records[0])
        split = sending.best_split(chosen, Inference(sample.requests[0]), None)
    client = sending.client(split, chosen, None, 0)

    async def evaluated() -> "Evaluation":
        async with client:  # a server is found, and is the right one, before the model is read
            whole = None
            if unsplit:
                whole = await asyncio.to_thread(load_model, model, chosen, dtype, device)
            with progress(len(records)) as begin:
                return await run_all(client, chosen_task, records, qualities, whole, begin)

    found = run(evaluated())
    if as_json:
        told = _report(found, client.split, name, model, codec)
        print(json.dumps(told | {"profiled": client.profiled}))
        return
    Console().print(_table(found, codec))
    print(
        f"{name}: {found.samples} records, {found.requests} requests;"
        " mean bytes, also against float16, and median times of a request",
        file=sys.stderr,
    )
    sending.tell_profile(client)


def _report(found: "Evaluation", split: str, task: str, model: str, codec: str) -> dict[str, Any]:
    """Every figure; null for those that are not finite."""
    from featurewire_client.evaluation.metrics import finite

    unsplit = finite(found.unsplit.as_dict()) if found.unsplit is not None else None
    return {
        "model": model,
        "task": task,
        "split_point": split,
        "codec": codec,
        "records": found.samples,
        "requests": found.requests,
        "unsplit": unsplit,
        "split": [finite(row.as_dict()) for row in found.split],
    }


def _table(found: "Evaluation", codec: str) -> Table:
    """A line for the unsplit model and for each quality; narrow enough for a terminal of 80."""
    from featurewire_client.evaluation.evaluation import STAGES

    rows = [(_name(row.snr_db, codec), row.as_dict()) for row in found.split]
    if found.unsplit is not None:
        rows.insert(0, ("unsplit", found.unsplit.as_dict()))
    names = list(rows[0][1]["metrics"])
    brief = {"network": "net.", "encode": "enc.", "decode": "dec."}
    stages = [stage for stage in STAGES if stage != "queue"]
    headings = [name.replace("_", "\n") if "_" in name else f"\n{name}" for name in names]
    headings += ["bytes\nsent", "times\nless", "\nBPFP"]
    headings += [f"{brief.get(stage, stage)}\nms" for stage in stages]
    table = Table(box=SIMPLE_HEAD, padding=0)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, figures in rows:
        cells = [f"{figures['metrics'][metric]:.4f}" for metric in names]
        if "sent_bytes" in figures:
            less = figures["float16_bytes"] / figures["sent_bytes"]
            times = f"{less:.1f}x" if less < 100 else f"{less:.0f}x"
            cells += [f"{figures['sent_bytes']:.0f}", times, f"{figures['bpfp']:.2f}"]
        else:
            cells += ["", "", ""]
        known = (figures.get(f"{stage}_ms") for stage in stages)
        table.add_row(name, *cells, *("" if ms is None else f"{ms:.1f}" for ms in known))
    return table


def _name(snr_db: float | None, codec: str) -> str:
    return codec if snr_db is None else f"{snr_db:g} dB"
