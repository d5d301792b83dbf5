"""`featurewire models` and `featurewire plan`: what a server has, and where to split."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from featurewire.wire.runtime import run
from rich.console import Console
from rich.table import Table

from featurewire_client.commands.options import Address, Json, ModelName, SnrDb, TaskName
from featurewire_client.commands.planning import one_row, planned


def models(server: Address, as_json: Json = False) -> None:
    """What the server serves.

    Example: featurewire models --server localhost:50051
    """
    from featurewire_client.route import Route

    async def listing() -> list[dict[str, Any]]:
        connection = await Route(server).connect(timeout_s=10)
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
    table = Table("model", "tasks", "split points", "default", "profiles")
    table.columns[0].no_wrap = table.columns[2].no_wrap = True
    for row in rows:
        splits = row["splits"]
        table.add_row(
            row["model"],
            "\n".join(row["tasks"]),
            splits[0] if len(splits) == 1 else f"{splits[0]} to {splits[-1]}",
            row["default_split"],
            "\n".join(sorted({held["split"] for held in row["profiles"]})) or "none",
        )
    Console().print(table)


def plan(
    model: ModelName,
    server: Address,
    input: Annotated[
        str | None, typer.Option(help="A text or a file to run.", show_default="a made one")
    ] = None,
    task: TaskName = None,
    snr_db: SnrDb = 25.0,
    runs: Annotated[int, typer.Option(min=1, help="Runs of everything that is timed.")] = 3,
    as_json: Json = False,
) -> None:
    """Where to split: predicts every split point that the server serves, over the link as it is.

    Heads run here, requests go at three of the split points, and the link is measured.

    Example: featurewire plan tiny-llama3 --server localhost:50051
    """
    from featurewire_models import describe, load_processor

    from featurewire_client.plan import reason
    from featurewire_client.raw_input import read_input, sample_input

    chosen = describe(model).check_task(task)
    raw = sample_input(chosen) if input is None else read_input(input, chosen)
    processor: Any = load_processor(model, chosen)
    inputs = one_row(chosen, processor.inputs(raw))
    found = run(planned(model, server, chosen, inputs, runs, snr_db))
    if as_json:
        rows = [asdict(cost) for cost in found.costs]
        answer = {"link": asdict(found.link), "rows": rows, "best": found.best.split}
        print(json.dumps(answer | {"reason": reason(found)}))
        return
    stages = ("head", "encode", "network", "decode", "tail", "total")
    link = f"{found.link.rate_mbit:.3g} Mbit/s, round trip {found.link.round_trip_ms:.1f} ms"
    table = Table("split point", "profile", "bytes", *stages, caption=f"predicted, ms; {link}")
    for cost in found.costs:
        mark = "bold" if cost is found.best else ""
        times = [value for name, value in asdict(cost).items() if name.endswith("_ms")]
        cells = [cost.split, "yes" if cost.profiled else "no", str(cost.sent_bytes)]
        table.add_row(*cells, *(f"{time:.1f}" for time in times), style=mark)
    Console().print(table)
    print(reason(found))
