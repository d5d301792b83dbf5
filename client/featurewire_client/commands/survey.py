"""`featurewire models` and `featurewire plan`: what a server has, and where to split."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from featurewire.wire.runtime import run
from rich.console import Console
from rich.table import Table

from featurewire_client.commands.options import Address, Json, ModelName, SnrDb, TaskName
from featurewire_client.progress import steps


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
    from featurewire_models import describe, load_processor

    from featurewire_client import plan as planning
    from featurewire_client.client import SplitClient
    from featurewire_client.raw_input import read_input, sample_input
    from featurewire_client.route import Route

    chosen = describe(model).check_task(task)
    raw = sample_input(chosen) if input is None else read_input(input, chosen)
    processor: Any = load_processor(model, chosen)
    inputs = processor.inputs(raw)

    def make_client(split: str) -> SplitClient:
        return SplitClient(server, model, split=split, task=chosen, snr_db=snr_db)

    async def measure() -> list[planning.SplitCost]:
        connection = await Route(server).connect(timeout_s=10)
        splits = list(connection.model(describe(model).name).splits)
        await connection.channel.close()
        with steps(len(splits)) as begin:
            return await planning.measure(make_client, splits, inputs, runs, begin)

    costs = run(measure())
    if as_json:
        rows = [asdict(cost) for cost in costs]
        print(json.dumps({"rows": rows, "best": planning.best(costs).split}))
        return
    stages = ("head", "encode", "network", "decode", "tail", "total")
    table = Table("split point", "profile", "bytes", *stages, caption="times in ms, medians")
    for cost in costs:
        mark = "bold" if cost is planning.best(costs) else ""
        times = [value for name, value in asdict(cost).items() if name.endswith("_ms")]
        cells = [cost.split, "yes" if cost.profiled else "no", str(cost.sent_bytes)]
        table.add_row(*cells, *(f"{time:.1f}" for time in times), style=mark)
    Console().print(table)
    print(planning.reason(costs))
