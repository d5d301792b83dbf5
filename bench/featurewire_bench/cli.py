"""`featurewire-bench`: options in, measurements as tables, charts and JSON out."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from featurewire.wire.runtime import run, run_command
from featurewire_client.progress import steps

from featurewire_bench.link import LinkConfig
from featurewire_bench.relay import Relay
from featurewire_bench.table import console, demo_table, points_table, runs_table

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Measures split inference over an emulated link.\n\nExample: featurewire-bench demo",
)

Out = Annotated[Path, typer.Option(help="Folder to write to; made when missing.")]
Rtt = Annotated[float, typer.Option(help="The link's round trip, ms.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Rate = Annotated[float, typer.Option(help="The link's rate, Mbit/s, each direction.")]
Samples = Annotated[int | None, typer.Option(min=1, help="Inputs of each task. [default: all]")]
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
    snr_db: Annotated[float | None, typer.Option(help="Quality of features. [default: 25]")] = None,
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
    rate_mbit: Annotated[list[float] | None, typer.Option(help="[default: 5, 20, 100]")] = None,
    rtt_ms: Annotated[list[float] | None, typer.Option(help="[default: 40]")] = None,
    snr_db: Annotated[list[float] | None, typer.Option(help="[default: 15, 25]")] = None,
    codec: Annotated[list[str] | None, typer.Option(help="[default: featurewire, float16]")] = None,
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


CODECS_HELP = """
Measures rate, distortion and speed of codecs on the bundled models' features.

Example: featurewire-bench codecs --model tiny-dinov2 --samples 4
"""


@app.command(help=CODECS_HELP)
def codecs(
    out: Out = Path("out"),
    snr_db: Annotated[list[float] | None, typer.Option(help="[default: 10 to 30, by 5]")] = None,
    model: Models = None,
    task: Tasks = None,
    samples: Samples = 8,
    as_json: Json = False,
) -> None:
    from featurewire_bench import figures
    from featurewire_bench.bundled import demo_workloads, only
    from featurewire_bench.demo import write_json
    from featurewire_bench.rate_distortion import SNRS_DB, Point, feature_sets, measure_codecs
    from featurewire_bench.workload import Inference

    figures.require_matplotlib()
    workloads = [w for w in only(demo_workloads(samples), model, task) if isinstance(w, Inference)]
    out.mkdir(parents=True, exist_ok=True)
    points = list[Point]()
    with steps(len(workloads)) as progress:
        for workload in workloads:
            progress(f"{workload.model}, {workload.title}")
            for features in feature_sets(workload):
                points += measure_codecs(features, snr_db or SNRS_DB)
    write_json(out / "codecs.json", {"points": [asdict(point) for point in points]})
    figures.rate_distortion_chart(points, out / "codecs.png")
    if as_json:
        print(json.dumps({"points": [asdict(point) for point in points]}))
        return
    console().print(points_table(points, f"Codecs on held-out features; files in {out}/"))


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
        if as_json:
            print(json.dumps({"address": link.address, "target": target}), flush=True)
        else:
            print(f"{link.address} -> {target}, {rate_mbit:g} Mbit/s, {rtt_ms:g} ms", flush=True)
        try:
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
