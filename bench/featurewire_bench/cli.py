"""`featurewire-bench`: options in, measurements as tables, charts and JSON out."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from featurewire.wire.options import Version
from featurewire.wire.runtime import run, run_command
from featurewire_client.progress import steps

from featurewire_bench.link import LinkConfig
from featurewire_bench.relay import Relay
from featurewire_bench.table import codecs_table, console, demo_table, runs_table

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Measures split inference over an emulated link.\n\nExample: featurewire-bench demo",
)


@app.callback()
def options(version: Version = False) -> None:
    """What all commands have."""


Out = Annotated[Path, typer.Option(help="Folder to write to; made when missing.")]
Rtt = Annotated[float, typer.Option(help="The link's round trip, ms.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Rate = Annotated[float, typer.Option(help="The link's rate, Mbit/s, each direction.")]
Samples = Annotated[
    int | None, typer.Option(min=1, help="Inputs of each task.", show_default="all")
]
Models = Annotated[list[str] | None, typer.Option(help="Only this model; may be repeated.")]
Tasks = Annotated[list[str] | None, typer.Option(help="Only this task; may be repeated.")]

DEMO_HELP = """
Runs six tasks of the three bundled models split over an emulated link.

Starts a server of its own, prints one table, and writes demo.json and pictures.

Example: featurewire-bench demo --rate-mbit 5 --rtt-ms 80 --out out
"""


@app.command(help=DEMO_HELP)
def demo(
    out: Out = Path("out"),
    rate_mbit: Rate = 20.0,
    rtt_ms: Rtt = 40.0,
    snr_db: Annotated[
        float | None, typer.Option(help="Quality of features.", show_default="25")
    ] = None,
    samples: Samples = None,
    as_json: Json = False,
) -> None:
    from featurewire_bench import figures
    from featurewire_bench.bundled import demo_workloads
    from featurewire_bench.demo import SNR_DB, DemoConfig, document, remarks, run_demo, write_json
    from featurewire_bench.showcase import write_pictures

    config = DemoConfig(LinkConfig(rate_mbit, rtt_ms), SNR_DB if snr_db is None else snr_db)
    figures.require_matplotlib()
    out.mkdir(parents=True, exist_ok=True)
    workloads = demo_workloads(samples)
    with steps(1 + len(workloads)) as progress:
        comparisons = run(run_demo(config, workloads, progress))
    content = document(config, comparisons)
    write_json(out / "demo.json", content)
    figures.chart([(c.ours, c.float16) for c in comparisons], out / "chart.png")
    write_pictures(comparisons, out)
    if as_json:
        print(json.dumps(content))
        return
    title = f"Split inference over {rate_mbit:g} Mbit/s and {rtt_ms:g} ms round trip"
    screen = console()
    screen.print(demo_table([c.row for c in comparisons], title, remarks(comparisons)))
    screen.print(f"features at {config.snr_db:g} dB SNR; pictures and demo.json in {out}/")


SWEEP_HELP = """
Measures tasks x links x codecs; writes sweep.csv, sweep.json and a chart.

Example: featurewire-bench sweep --task depth --rate-mbit 5 --rate-mbit 50 --snr-db 20
"""


@app.command(help=SWEEP_HELP)
def sweep(
    out: Out = Path("out"),
    rate_mbit: Annotated[list[float] | None, typer.Option(show_default="5, 20, 100")] = None,
    rtt_ms: Annotated[list[float] | None, typer.Option(show_default="40")] = None,
    snr_db: Annotated[list[float] | None, typer.Option(show_default="15, 25")] = None,
    codec: Annotated[list[str] | None, typer.Option(show_default="featurewire, float16")] = None,
    model: Models = None,
    task: Tasks = None,
    samples: Samples = 3,
    as_json: Json = False,
) -> None:
    from featurewire_bench import figures
    from featurewire_bench.bundled import demo_workloads, only
    from featurewire_bench.demo import write_json
    from featurewire_bench.sweep import Grid, run_sweep, ways, write_csv

    figures.require_matplotlib()
    rates, rtts = rate_mbit or [5.0, 20.0, 100.0], rtt_ms or [40.0]
    grid = Grid(
        links=[LinkConfig(rate, rtt) for rtt in rtts for rate in rates],
        ways=ways(codec or ["featurewire", "float16"], snr_db or [15.0, 25.0]),
        workloads=only(demo_workloads(samples), model, task),
    )
    out.mkdir(parents=True, exist_ok=True)
    with steps(len(grid.workloads) * len(grid.links)) as progress:
        runs = run(run_sweep(grid, progress))
    write_csv(out / "sweep.csv", runs)
    write_json(out / "sweep.json", {"runs": [asdict(run) for run in runs]})
    figures.sweep_chart(runs, out / "sweep.png")
    if as_json:
        print(json.dumps({"runs": [asdict(run) for run in runs]}))
        return
    console().print(runs_table(runs, f"{len(runs)} runs; files in {out}/"))


SESSIONS_HELP = """
Measures what sessions reach: overlap against the ideal pipeline, many clients, predictions.

Two models with random weights are made for it. Writes sessions.md and sessions.json.

Example: featurewire-bench sessions --out out
"""


@app.command(help=SESSIONS_HELP)
def sessions(
    out: Out = Path("out"),
    rtt_ms: Rtt = 20.0,
    snr_db: Annotated[float, typer.Option(help="Quality of features.")] = 15.0,
    clients: Annotated[int, typer.Option(min=1, help="That ask at once.")] = 16,
    seconds: Annotated[float, typer.Option(min=1, help="Of each load.")] = 20.0,
    as_json: Json = False,
) -> None:
    from featurewire_bench.demo import write_json
    from featurewire_bench.sessions import report, run_sessions

    out.mkdir(parents=True, exist_ok=True)
    with steps(27) as progress:
        found = run(run_sessions(rtt_ms, snr_db, clients, seconds, progress))
    write_json(out / "sessions.json", found.as_dict())
    (out / "sessions.md").write_text(report(found), encoding="utf-8")
    if as_json:
        print(json.dumps(found.as_dict()))
        return
    print(report(found))


CODECS_HELP = """
Measures rate, distortion, task metric and speed of codecs on real features.

Needs no data: the bundled models, a small CNN and, where installed, MiniLM on the text that every
Python carries. Writes codecs.md, codecs.json and codecs.png.

Example: featurewire-bench codecs --quick --sources cnn,bundled
"""


@app.command(help=CODECS_HELP)
def codecs(
    out: Out = Path("out"),
    sources: Annotated[
        str | None,
        typer.Option(
            help="Of text-in-domain,text-across,massive,latents,cnn,bundled.", show_default="all"
        ),
    ] = None,
    text: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with one more kind of text to calibrate on; may be repeated."),
    ] = None,
    test_text: Annotated[
        Path | None,
        typer.Option(help="Folder with text to test on.", show_default="Python's reference manual"),
    ] = None,
    latents: Annotated[
        Path | None,
        typer.Option(help=".npz of latents: the first array calibrates, the second tests."),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1024, help="To calibrate text on.", show_default="98304")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="To test each source on.", show_default="24")
    ] = None,
    networks: Annotated[
        Path | None,
        typer.Option(
            help="Folders text, latents, cnn, bundled of DT-UFC networks trained for that alone.",
            show_default="the shipped ones, for text and latents",
        ),
    ] = None,
    snr_db: Annotated[list[float] | None, typer.Option(show_default="0 to 30, by 5")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer samples and settings.")] = False,
    results: Annotated[
        Path | None, typer.Option(help="Markdown file whose measured part to replace as well.")
    ] = None,
    as_json: Json = False,
) -> None:
    from featurewire_bench import codecs_report, figures
    from featurewire_bench.codecs import CodecsConfig, document, run_codecs, step_count
    from featurewire_bench.demo import write_json
    from featurewire_bench.measured import Measured
    from featurewire_bench.rate_distortion_figure import rate_distortion_figure

    figures.require_matplotlib()
    given: dict[str, Any] = {
        "sources": sources.split(",") if sources else None,
        "texts": text,
        "test_text": test_text,
        "latents": latents,
        "networks": networks,
        "tokens": tokens,
        "samples": samples,
        "snrs_db": sorted(snr_db) if snr_db else None,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    config = CodecsConfig.quick(**chosen) if quick else CodecsConfig(**chosen)
    out.mkdir(parents=True, exist_ok=True)
    measured = list[Measured]()
    with steps(step_count(config)) as progress:
        for source in run_codecs(config, progress):
            measured.append(source)
            write_json(out / "codecs.json", document(config, measured))
    content = document(config, measured)
    write_json(out / "codecs.json", content)
    report = codecs_report.report(content["conditions"], config.notes, measured)
    (out / "codecs.md").write_text(report, encoding="utf-8")
    rate_distortion_figure(measured, out / "codecs.png")
    if results:
        codecs_report.replace_measured(results, report)
    if as_json:
        print(json.dumps(content))
        return
    for note in config.notes:
        print(note, file=sys.stderr)
    console().print(codecs_table(measured, f"Bits a feature point at 15 dB; files in {out}/"))


LARGE_HELP = """
Measures a model of Llama-3-8B's shape split over loopback beside the same model whole.

Random weights are written for it, 16 GB at full size. Prints the prefill time and tokens a second.

Example: featurewire-bench large --device cuda --codec featurewire --codec float16
"""


@app.command(help=LARGE_HELP)
def large(
    layers: Annotated[int, typer.Option(min=1, help="Blocks of the model.")] = 32,
    channels: Annotated[int, typer.Option(min=64, help="Its width, a multiple of 64.")] = 4096,
    words: Annotated[int, typer.Option(min=16, help="Its vocabulary.")] = 128256,
    split: Annotated[str, typer.Option(help="Split point.")] = "layers.4",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "bfloat16",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto: a GPU if any.")] = (
        "auto"
    ),
    codec: Annotated[list[str] | None, typer.Option(show_default="featurewire")] = None,
    snr_db: Annotated[float, typer.Option(help="Quality of features.")] = 25.0,
    prompt_tokens: Annotated[int, typer.Option(min=1, max=8000)] = 1000,
    tokens: Annotated[int, typer.Option(min=2, max=4000, help="To generate.")] = 64,
    folder: Annotated[
        Path | None,
        typer.Option(help="To write the weights below.", show_default="a temporary one"),
    ] = None,
    as_json: Json = False,
) -> None:
    from featurewire_bench.large import LargeConfig, run_large, step_count
    from featurewire_bench.random_models import LlamaShape
    from featurewire_bench.table import large_table

    config = LargeConfig(
        shape=LlamaShape(layers, channels, words),
        split=split,
        dtype=dtype,
        device=device,
        codecs=tuple(codec or ["featurewire"]),
        snr_db=snr_db,
        prompt_tokens=prompt_tokens,
        tokens=tokens,
    )
    with steps(step_count(config)) as progress:
        found = run(run_large(config, folder, progress))
    if as_json:
        print(json.dumps(found.as_dict()))
        return
    console().print(large_table(found))


RELAY_HELP = """
Runs the link emulator by hand, until Ctrl-C.

Example: featurewire-bench relay 127.0.0.1:50051 --listen 127.0.0.1:50052 --rate-mbit 5
"""


@app.command(help=RELAY_HELP)
def relay(
    target: Annotated[str, typer.Argument(help="HOST:PORT to relay to.")],
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0: a free one.")] = "127.0.0.1:0",
    rate_mbit: Rate = 20.0,
    rtt_ms: Rtt = 40.0,
    jitter_ms: Annotated[float, typer.Option(help="Up to so much more delay, ms.")] = 0.0,
    as_json: Json = False,
) -> None:
    with Relay(target, rate_mbit, rtt_ms, jitter_ms, listen) as link:
        told = f"{link.address} -> {target}, {rate_mbit:g} Mbit/s, {rtt_ms:g} ms"
        if as_json:
            told = json.dumps({"address": link.address, "target": target})
        try:
            print(told, flush=True)
            link.wait()
        except KeyboardInterrupt:
            print(f"{link.up_bytes} bytes up, {link.down_bytes} down", file=sys.stderr)


def main() -> None:
    """Exits 2 with one sentence on bad input."""
    errors = (
        "featurewire_bench.errors:BenchError",
        "featurewire_client.errors:ClientError",
        "featurewire_codec.errors:CodecError",
        "featurewire_models.errors:ModelError",
    )
    run_command("featurewire-bench", app, errors)
