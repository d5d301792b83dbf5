"""How near a request comes to the ideal pipeline: models and rates in, seconds against ideal out.

Ideal for a prompt of a causal model, whose spans go through all stages at once: the longest of the
wire's time at the link's rate, the processor's time of all stages over the cores they share, and
the slowest stage; then one round trip, and one span of each other stage. For a feature that the
tail needs whole: head, then the longest of encoding, wire and decoding, then tail and one round
trip. The stages' own times are of one after the other in this process, on one thread, with nothing
beside them.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import sub
from pathlib import Path
from statistics import median

import torch
from featurewire.wire.coder import Coder
from featurewire_client import SplitClient
from featurewire_client.edge import SPAN_TOKENS
from featurewire_client.stats import InferStats
from featurewire_models import load_head, load_tail

from featurewire_bench.process import ServerProcess
from featurewire_bench.random_models import prompt_of, random_dinov2, random_llama
from featurewire_bench.relay import Relay

PROMPT_TOKENS = 1000
REPEATS = 3


@dataclass(frozen=True)
class Overlap:
    """One request over one link. Milliseconds; `sum_ms` is what it takes one after the other."""

    what: str
    rate_mbit: float
    rtt_ms: float
    sent_bytes: int
    wire_ms: float
    head_ms: float
    encode_ms: float
    decode_ms: float
    tail_ms: float
    sum_ms: float
    ideal_ms: float
    measured_ms: float

    @property
    def over_ideal(self) -> float:
        """1.1: a tenth more than the ideal."""
        return self.measured_ms / self.ideal_ms


async def run_overlap(
    rates_mbit: Sequence[float], rtt_ms: float, snr_db: float, progress: Callable[[str], None]
) -> list[Overlap]:
    """Measures a prompt of 1000 tokens and a feature of 1370 x 1536 over every link.

    Raises:
        BenchError: the server does not start.
        ClientError, ModelError, CodecError: a request fails.
    """
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        # of the giant's width, with two blocks
        models = [random_llama(Path(folder)), random_dinov2(Path(folder), 1536, 2, 518)]
        pixels = torch.randn(1, 3, 518, 518, generator=torch.Generator().manual_seed(1))
        with ServerProcess([str(model) for model in models], ["--threads", "1"]) as server:

            async def prompt(address: str) -> InferStats:
                async with SplitClient(
                    address, str(models[0]), "layers.4", snr_db=snr_db
                ) as client:
                    return await _prompt(client)

            async def feature(address: str) -> InferStats:
                async with SplitClient(
                    address, str(models[1]), "layers.1", snr_db=snr_db
                ) as client:
                    return await _feature(client, pixels)

            ids = {"input_ids": torch.arange(PROMPT_TOKENS)[None] * 7 % 4096}
            work = (
                (f"prompt of {PROMPT_TOKENS} tokens", prompt,
                 alone_of(models[0], "layers.4", ids, snr_db)),
                ("feature of 1370 x 1536", feature,
                 alone_of(models[1], "layers.1", {"pixel_values": pixels}, snr_db)),
            )  # fmt: skip
            for what, request, stages in work:
                progress(f"{what}, stage by stage")
                own = await request(server.address)
                alone = min((stages() for _ in range(REPEATS)), key=sum)
                for rate in rates_mbit:
                    progress(f"{what}, {rate:g} Mbit/s")
                    async with Relay(server.address, rate, rtt_ms) as link:
                        runs = [await request(link.address) for _ in range(REPEATS)]
                    rows.append(_row(what, rate, rtt_ms, own.sent_bytes, alone, runs))
    return rows


async def _prompt(client: SplitClient) -> InferStats:
    """The time to the first token; a request before it opens what the first one would."""
    for text in ("w1", prompt_of(PROMPT_TOKENS)):
        async for _ in client.generate(text, max_tokens=1):
            pass
    assert client.last_stats is not None
    return client.last_stats


async def _feature(client: SplitClient, pixels: torch.Tensor) -> InferStats:
    for _ in range(2):
        result = await client.infer({"pixel_values": pixels}, outputs=["logits"])
    return result.stats


def alone_of(
    model: Path, split: str, inputs: dict[str, torch.Tensor], snr_db: float
) -> Callable[[], tuple[float, ...]]:
    """A function that runs all stages one after the other: milliseconds of each.

    Head, encoding, decoding and tail; a prompt goes in spans, with caches.
    """
    head, tail = load_head(model, split), load_tail(model, split)
    coder, is_prompt = Coder("featurewire", {}), "input_ids" in inputs
    parts = [inputs]
    if is_prompt:
        parts = [{"input_ids": ids} for ids in torch.split(inputs["input_ids"], SPAN_TOKENS, 1)]

    def run() -> tuple[float, ...]:
        spent = [0.0] * 4
        caches = (head.new_cache(), tail.new_cache()) if is_prompt else (None, None)
        with torch.inference_mode():
            for part in parts:
                times = [time.perf_counter()]
                features = head(part, cache=caches[0])
                ((name, tensor),) = features.tensors.items()
                times.append(time.perf_counter())
                grid, shape = features.grids.get(name), (tensor.shape[1], tensor.shape[2])
                pieces = list(coder.encode(name, tensor[0], grid, snr_db))
                times.append(time.perf_counter())
                decoder = coder.decoder(name, shape, grid)
                for piece in pieces:
                    decoder.feed(piece)
                decoded = replace(features, tensors={name: decoder.finish()[None]})
                times.append(time.perf_counter())
                tail.step(decoded, caches[1]) if caches[1] is not None else tail(decoded)
                times.append(time.perf_counter())
                spent = [sum(pair) for pair in zip(spent, map(sub, times[1:], times), strict=True)]
        return tuple(1000 * seconds for seconds in spent)

    return run


def _row(
    what: str,
    rate_mbit: float,
    rtt_ms: float,
    sent_bytes: int,
    stages: tuple[float, ...],
    runs: list[InferStats],
) -> Overlap:
    wire_ms = 8 * sent_bytes / rate_mbit / 1000
    head_ms, encode_ms, decode_ms, tail_ms = stages
    if what.startswith("prompt"):
        shared = sum(stages) / min(2, os.cpu_count() or 1)
        longest = max(wire_ms, shared, *stages)
        spans = -(-PROMPT_TOKENS // SPAN_TOKENS)
        others = sum(sorted([wire_ms, *stages])[:-1]) / spans
        ideal = longest + rtt_ms + others
    else:
        ideal = head_ms + max(encode_ms, wire_ms, decode_ms) + tail_ms + rtt_ms
    return Overlap(
        what=what,
        rate_mbit=rate_mbit,
        rtt_ms=rtt_ms,
        sent_bytes=sent_bytes,
        wire_ms=wire_ms,
        head_ms=head_ms,
        encode_ms=encode_ms,
        decode_ms=decode_ms,
        tail_ms=tail_ms,
        sum_ms=sum(stages) + wire_ms + rtt_ms,
        ideal_ms=ideal,
        measured_ms=median(run.total_ms for run in runs),
    )
