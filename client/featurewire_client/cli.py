"""`featurewire`: one inference, a generation, and what to know and to do before them."""

import asyncio
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from featurewire.wire.coder import CODECS
from featurewire.wire.metrics import WireMetrics
from featurewire.wire.runtime import run, tune_malloc
from featurewire_codec import CodecError
from featurewire_models import ModelError, describe, load_processor
from prometheus_client import start_http_server
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from featurewire_client import calibration, plan, result
from featurewire_client.client import SplitClient
from featurewire_client.connection import connect
from featurewire_client.errors import ClientError
from featurewire_client.raw_input import read_input, sample_input

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Runs models split between this machine and a server.",
)

ModelName = Annotated[str, typer.Argument(help="Bundled name, local folder or hub id.")]
Address = Annotated[
    str, typer.Option("--server", help="HOST:PORT, or several with commas: the first to answer.")
]
Split = Annotated[str | None, typer.Option(help="Split point. [default: the server's]")]
TaskName = Annotated[str | None, typer.Option("--task", help="[default: the model's first]")]
Codec = Annotated[str, typer.Option(help=f"How features travel: {', '.join(CODECS)}.")]
SnrDb = Annotated[float, typer.Option(help="Quality of the features in dB, 0 to 60.")]
ProfileChoice = Annotated[
    str, typer.Option(help="'server': the server's; 'none': self-describing; or a folder.")
]
Timeout = Annotated[float, typer.Option(help="Seconds that one request may take.")]
MetricsPort = Annotated[
    int, typer.Option(min=0, max=65535, help="Prometheus metrics while it runs; 0: none.")
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def _client(
    model: str,
    server: str,
    *,
    split: str | None,
    task: str | None,
    codec: str,
    snr_db: float,
    profile: str,
    timeout_s: float,
    metrics_port: int,
) -> SplitClient:
    if codec not in CODECS:
        raise typer.BadParameter(f"--codec {codec!r} is none of {', '.join(CODECS)}")
    metrics = None
    if metrics_port:
        try:
            start_http_server(metrics_port, "127.0.0.1")
        except OSError as error:
            raise ClientError(f"cannot serve metrics on port {metrics_port}: {error}") from error
        metrics = WireMetrics("client")
    return SplitClient(
        server,
        model,
        split=split,
        task=task,
        codec=codec,
        snr_db=snr_db,
        profile=None if profile == "none" else profile,
        timeout_s=timeout_s,
        metrics=metrics,
    )


@app.command()
def infer(
    model: ModelName,
    input: Annotated[
        str, typer.Argument(help="A text, or a text file or an image file, as the task takes.")
    ],
    server: Address,
    task: TaskName = None,
    split: Split = None,
    codec: Codec = "featurewire",
    snr_db: SnrDb = 25.0,
    profile: ProfileChoice = "server",
    seed: Annotated[int, typer.Option(help="Noise of text to image.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of text to image.")] = 20,
    guidance: Annotated[float, typer.Option(help="Guidance of text to image.")] = 4.0,
    timeout_s: Timeout = 60.0,
    metrics_port: MetricsPort = 0,
    out: Annotated[
        Path | None, typer.Option(help="Writes the result: .png, .npy or .json, as it fits.")
    ] = None,
    as_json: Json = False,
) -> None:
    """One inference: a label, mask, depth map, image or embedding, with its account.

    Example: featurewire infer tiny-dinov2 digit.png --server localhost:50051 --task depth --out d.png
    """
    client = _client(
        model,
        server,
        split=split,
        task=task,
        codec=codec,
        snr_db=snr_db,
        profile=profile,
        timeout_s=timeout_s,
        metrics_port=metrics_port,
    )
    chosen = describe(model).check_task(task)
    processor = load_processor(model, chosen)
    options = (
        {"seed": seed, "steps": steps, "guidance": guidance} if chosen == "text-to-image" else {}
    )
    raw = read_input(input, chosen)
    inputs = processor.inputs(raw, **options)

    async def once() -> Any:
        async with client:
            return await client.infer(inputs)

    answer = run(once())
    value = processor.result(answer.output)
    if out is not None:
        result.write(value, out)
    if as_json:
        print(json.dumps({"result": result.as_json(value), "stats": answer.stats.as_dict()}))
    else:
        print(result.as_text(value) if out is None else f"{result.as_text(value)} -> {out}")
        print(answer.stats, file=sys.stderr)


@app.command()
def generate(
    model: ModelName,
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    server: Address,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to generate at most.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest each time.")] = 0.0,
    top_k: Annotated[int, typer.Option(min=0, help="0: all.")] = 0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="1: all.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same text.")] = 0,
    stop: Annotated[list[str] | None, typer.Option(help="Ends before this text.")] = None,
    split: Split = None,
    codec: Codec = "featurewire",
    snr_db: SnrDb = 25.0,
    profile: ProfileChoice = "server",
    timeout_s: Timeout = 60.0,
    metrics_port: MetricsPort = 0,
    as_json: Json = False,
) -> None:
    """Continues a text, piece by piece on stdout; the account goes to stderr.

    Example: featurewire generate tiny-llama3 "Return the number of" --server localhost:50051
    """
    client = _client(
        model,
        server,
        split=split,
        task=None,
        codec=codec,
        snr_db=snr_db,
        profile=profile,
        timeout_s=timeout_s,
        metrics_port=metrics_port,
    )

    async def all_pieces() -> str:
        text = []
        async with client:
            async for piece in client.generate(
                prompt,
                max_tokens=max_tokens,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                seed=seed,
                stop=stop or (),
            ):
                text.append(piece)
                if not as_json:
                    print(piece, end="", flush=True)
        return "".join(text)

    text = run(all_pieces())
    stats = client.last_stats
    if as_json:
        print(json.dumps({"text": text, "stats": stats.as_dict() if stats else None}))
    else:
        print()
        print(stats, file=sys.stderr)


@app.command()
def models(server: Address, as_json: Json = False) -> None:
    """What the server serves.

    Example: featurewire models --server localhost:50051
    """

    async def listing() -> list[dict[str, Any]]:
        connection = await connect(server, timeout_s=10)
        served = connection.catalogue.models
        await connection.channel.close()
        return [
            {
                "model": model.name,
                "family": model.family,
                "tasks": list(model.tasks),
                "splits": list(model.splits),
                "default_split": model.default_split,
                "dtype": model.dtype,
                "revision": model.revision,
                "profiles": [
                    {"task": held.task, "split": held.split, "digest": held.digest}
                    for held in model.profiles
                ],
            }
            for model in served
        ]

    rows = run(listing())
    if as_json:
        print(json.dumps(rows))
        return
    table = Table("model", "family", "tasks", "split points", "default", "profiles", "revision")
    for row in rows:
        splits = row["splits"]
        table.add_row(
            row["model"],
            row["family"],
            ", ".join(row["tasks"]),
            splits[0] if len(splits) == 1 else f"{splits[0]} to {splits[-1]}",
            row["default_split"],
            ", ".join(sorted({held["split"] for held in row["profiles"]})) or "none",
            row["revision"][:12],
        )
    Console().print(table)


@app.command(name="plan")
def plan_command(
    model: ModelName,
    server: Address,
    input: Annotated[
        str | None, typer.Option(help="A text or a file to run. [default: a made one]")
    ] = None,
    task: TaskName = None,
    snr_db: SnrDb = 25.0,
    runs: Annotated[int, typer.Option(min=1, help="Runs at each split point.")] = 3,
    as_json: Json = False,
) -> None:
    """Where to split: runs every split point that the server serves, over the link as it is.

    Example: featurewire plan tiny-llama3 --server localhost:50051
    """
    chosen = describe(model).check_task(task)
    raw = sample_input(chosen) if input is None else read_input(input, chosen)
    inputs = load_processor(model, chosen).inputs(raw)

    def make_client(split: str) -> SplitClient:
        return SplitClient(server, model, split=split, task=chosen, snr_db=snr_db)

    async def measure() -> list[plan.SplitCost]:
        connection = await connect(server, timeout_s=10)
        splits = list(connection.model(describe(model).name).splits)
        await connection.channel.close()
        with Progress(console=Console(stderr=True), transient=True) as bar:
            line = bar.add_task("split points", total=len(splits))
            return await plan.measure(make_client, splits, inputs, runs, lambda: bar.advance(line))

    costs = run(measure())
    if as_json:
        rows = [asdict(cost) for cost in costs]
        print(json.dumps({"rows": rows, "best": plan.best(costs).split}))
        return
    table = Table("split point", "bytes sent", "head", "encode", "network", "decode", "tail", "ms")
    for cost in costs:
        mark = "bold" if cost is plan.best(costs) else ""
        _, *figures = asdict(cost).values()
        table.add_row(cost.split, *(f"{figure:.1f}" for figure in figures), style=mark)
    Console().print(table)
    print(plan.reason(costs))


@app.command()
def calibrate(
    model: ModelName,
    split: Annotated[str, typer.Option(help="Split point to learn a profile for.")],
    data: Annotated[Path, typer.Option(help="Folder of images or text files; or a text file.")],
    out: Annotated[Path, typer.Option(help="Folder to write the profiles into.")],
    task: TaskName = None,
    limit: Annotated[int, typer.Option(min=2, help="Inputs to run at most.")] = 512,
    as_json: Json = False,
) -> None:
    """Learns profiles from the features that the head makes of one's own data.

    Example: featurewire calibrate tiny-llama3 --split layers.4 --data texts/ --out profile/
    """
    with Progress(console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("head", total=None)

        def done(count: int, total: int) -> None:
            bar.update(line, completed=count, total=total)

        started = time.perf_counter()
        learned = calibration.calibrate(model, split, task, data, limit, done)
    learned.save_pretrained(out)
    report = calibration.report(learned)
    if as_json:
        print(json.dumps({"digest": learned.digest, "profiles": report}))
        return
    for name, figures in report.items():
        print(f"{name}: {figures}")
    seconds = time.perf_counter() - started
    print(f"profiles {learned.digest[:12]} in {out}, after {seconds:.1f} s")
    print(f"serve them with: featurewire-server --model {model} --profile {out}")


def main() -> None:
    """Exits 2 with one sentence on bad input, 130 on Ctrl-C."""
    tune_malloc()
    try:
        app()
    except (ClientError, ModelError, CodecError) as error:
        print(f"featurewire: {error}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
