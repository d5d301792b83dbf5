"""`featurewire models` and `featurewire plan`: what a server has, and where to split."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
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
    Json,
    MaxTokens,
    ModelName,
    ProfileChoice,
    SnrDb,
    TaskName,
    TokenTimeout,
)
from featurewire_client.commands.planning import text_work
from featurewire_client.commands.sending import Sending

if TYPE_CHECKING:
    from featurewire_client.plan import Plan


def models(server: Address, as_json: Json = False) -> None:
    """What the server serves.

    Example: featurewire models --server localhost:50051
    """
    from featurewire_client.connection import connected

    async def listing() -> list[dict[str, Any]]:
        async with connected(server, timeout_s=10) as connection:
            served = connection.catalogue.models
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
    max_tokens: MaxTokens = 64,
    codec: Codec = "featurewire",
    snr_db: SnrDb = 25.0,
    effort: EffortChoice = "fast",
    profile: ProfileChoice = "server",
    dtype: Dtype = "float32",
    device: Device = "cpu",
    timeout_s: TokenTimeout = 60.0,
    runs: Annotated[int, typer.Option(min=1, help="Runs of everything that is timed.")] = 3,
    as_json: Json = False,
) -> None:
    """Where to split: predicts every split point that the server serves, over the link as it is.

    Heads run here, requests go at up to eight of the split points, and the link is measured. For a
    language model: the time to the first token, of each token after it, and of all of them.

    Example: featurewire plan tiny-llama3 --server localhost:50051 --max-tokens 100
    """
    from featurewire_models import describe, load_processor

    from featurewire_client.plan import reason
    from featurewire_client.planner import Inference, Work
    from featurewire_client.raw_input import read_input, sample_input

    sending = Sending(model, server, codec, snr_db, effort, profile, dtype, device, timeout_s)
    chosen = describe(model).check_task(task)
    raw = sample_input(chosen) if input is None else read_input(input, chosen)
    work: Work
    if isinstance(raw, str) and chosen == "generation":
        work = text_work(model, raw, max_tokens)
    else:
        processor: Any = load_processor(model, chosen)
        work = Inference(processor.inputs(raw))
    found = sending.plan(chosen, work, runs)
    if as_json:
        answer = {"link": asdict(found.link), "tokens": found.tokens, "rows": found.rows()}
        print(json.dumps(answer | {"best": found.best.split, "reason": reason(found)}))
        return
    Console().print(_plan_table(found))
    print(reason(found))


def _plan_table(found: "Plan") -> Table:
    """A line a split point: bytes and milliseconds by stage; of a text, those of each token."""
    from featurewire_client.split_cost import STAGES

    link = f"{found.link.rate_mbit:.3g} Mbit/s, round trip {found.link.round_trip_ms:.1f} ms"
    rows = found.rows()
    # narrow: a text's twelve columns fit a terminal of 80
    table = Table(box=SIMPLE_HEAD, padding=0, caption=f"predicted, ms; {link}")
    table.add_column("split\npoint", no_wrap=True)
    table.add_column("pro-\nfile", no_wrap=True)
    is_text = rows[0]["token"] is not None
    headings = ["\nbytes", *(f"\n{stage}" for stage in STAGES), "\ntotal"]
    if is_text:
        headings[0] = "token\nbytes"
        headings[-1:] = ["each\ntoken", f"{found.tokens}\ntokens"]
        headings = ["prompt\nbytes", "first\ntoken", *headings]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        request, each = row["request"], row["token"] or row["request"]
        times = [each[f"{stage}_ms"] for stage in (*STAGES, "total")]
        cells = [f"{each['sent_bytes']:.0f}", *(f"{time:.1f}" for time in times)]
        if is_text:
            first = [f"{request['sent_bytes']:.0f}", f"{request['total_ms']:.1f}"]
            cells = [*first, *cells, f"{row['total_ms']:.0f}"]
        is_best = row["split"] == found.best.split
        known = [row["split"], "yes" if row["profiled"] else "no"]
        table.add_row(*known, *cells, style="bold" if is_best else "")
    between = [row["split"] for row in rows if not row["asked"]]
    if between:
        table.caption = f"{table.caption}\nserver's stages between the neighbours': {_few(between)}"
    return table


def _few(names: list[str]) -> str:
    """Some names in a line."""
    return ", ".join(names) if len(names) < 4 else f"{len(names)} split points"
