"""`featurewire infer` and `featurewire generate`: one request each, with its account."""

import json
import sys
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from featurewire.wire.runtime import run

from featurewire_client.commands.options import (
    Address,
    BytesBudget,
    Codec,
    Device,
    Dtype,
    EffortChoice,
    Guidance,
    Json,
    LatencyBudget,
    LeastSnrDb,
    MaxTokens,
    MetricsPort,
    ModelName,
    MostSnrDb,
    ProfileChoice,
    Seed,
    SnrDb,
    Split,
    Steps,
    TaskName,
    Timeout,
    TokenTimeout,
    TopK,
)
from featurewire_client.commands.planning import AUTO, one_row, text_work
from featurewire_client.commands.sending import Sending

if TYPE_CHECKING:
    from featurewire_client.client import InferResult


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
    effort: EffortChoice = "fast",
    profile: ProfileChoice = "server",
    latency_budget_ms: LatencyBudget = None,
    budget_bytes: BytesBudget = None,
    least_snr_db: LeastSnrDb = None,
    most_snr_db: MostSnrDb = None,
    seed: Seed = 0,
    steps: Steps = 20,
    guidance: Guidance = 4.0,
    negative_prompt: Annotated[
        str, typer.Option(help="What an image of a text is not to show.")
    ] = "",
    dtype: Dtype = "float32",
    device: Device = "cpu",
    timeout_s: Timeout = 60.0,
    metrics_port: MetricsPort = 0,
    out: Annotated[
        Path | None, typer.Option(help="Writes the result: .png, .npy or .json, as it fits.")
    ] = None,
    as_json: Json = False,
) -> None:
    """One inference: a label, mask, depth map, image or embedding, with its account.

    Example: featurewire infer tiny-dinov2 a.png --server localhost:50051 --task depth --out b.png
    """
    from featurewire_models import describe, load_processor
    from PIL import Image

    from featurewire_client import result
    from featurewire_client.raw_input import read_input

    sending = Sending(model, server, codec, snr_db, effort, profile, dtype, device, timeout_s)
    budget = sending.budget(latency_budget_ms, budget_bytes, least_snr_db, most_snr_db)
    chosen = describe(model).check_task(task)
    processor: Any = load_processor(model, chosen)  # what it takes depends on the task
    raw = read_input(input, chosen)
    made: dict[str, Any] = {}
    shown: dict[str, Any] = {}
    if chosen == "text-to-image":
        made = {"seed": seed, "steps": steps, "guidance": guidance, "negative": negative_prompt}
    if chosen in ("segmentation", "depth") and isinstance(raw, Image.Image):
        shown = {"size": (raw.height, raw.width)}
    inputs = one_row(chosen, processor.inputs(raw, **made))
    if split == AUTO:
        from featurewire_client.planner import Inference

        split = sending.best_split(chosen, Inference(inputs), budget)
    client = sending.client(split, task, budget, metrics_port)

    async def once() -> "InferResult":
        async with client:
            return await client.infer(inputs)

    answer = run(once())
    value = processor.result(answer.output, **shown)
    if out is not None:
        result.write(value, out)
    if as_json:
        told = {"result": result.as_json(value), "stats": answer.stats.as_dict()}
        print(json.dumps(told | {"profiled": client.profiled}))
    else:
        print(result.as_text(value) if out is None else f"{result.as_text(value)} -> {out}")
        sending.tell(client)


def generate(
    model: ModelName,
    prompt: Annotated[str, typer.Argument(help="The text to continue.")],
    server: Address,
    max_tokens: MaxTokens = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0: the likeliest each time.")] = 0.0,
    top_k: TopK = 0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="1: all.")] = 1.0,
    seed: Seed = 0,
    stop: Annotated[list[str] | None, typer.Option(help="Ends before this text.")] = None,
    split: Split = None,
    codec: Codec = "featurewire",
    snr_db: SnrDb = 25.0,
    effort: EffortChoice = "fast",
    profile: ProfileChoice = "server",
    latency_budget_ms: LatencyBudget = None,
    budget_bytes: BytesBudget = None,
    least_snr_db: LeastSnrDb = None,
    most_snr_db: MostSnrDb = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    timeout_s: TokenTimeout = 60.0,
    metrics_port: MetricsPort = 0,
    as_json: Json = False,
) -> None:
    """Continues a text, piece by piece on stdout; the account goes to stderr.

    Example: featurewire generate tiny-llama3 "Return the number of" --server localhost:50051
    """
    from featurewire_client.stop_strings import stop_strings

    sending = Sending(model, server, codec, snr_db, effort, profile, dtype, device, timeout_s)
    budget = sending.budget(latency_budget_ms, budget_bytes, least_snr_db, most_snr_db)
    stops = stop_strings(stop or ())
    if split == AUTO:
        split = sending.best_split("generation", text_work(model, prompt, max_tokens), budget)
    client = sending.client(split, None, budget, metrics_port)

    text: list[str] = []

    async def all_pieces() -> None:
        asked = client.generate(prompt, max_tokens, temperature, top_k, top_p, seed, stops)
        async with client, aclosing(asked) as pieces:
            async for piece in pieces:
                text.append(piece)
                if not as_json:
                    print(piece, end="", flush=True)

    def tell(finish: str) -> None:
        if as_json:
            account = client.last_stats.as_dict() if client.last_stats else None
            told = {"text": "".join(text), "finish": finish, "stats": account}
            print(json.dumps(told | {"profiled": client.profiled}))
            return
        print()
        if finish == "context":
            print("the model's context ended the text", file=sys.stderr)
        sending.tell(client)

    try:
        run(all_pieces())
    except KeyboardInterrupt:
        if client.last_stats is not None:
            tell("interrupted")
        raise
    tell(client.finish_reason)
