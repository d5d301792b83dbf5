"""How near a request comes to the ideal pipeline: models and rates in, seconds against ideal out.

Ideal for a prompt of a causal model, whose spans go through all stages at once: the longest of the
wire's time at the link's rate, the processor's time of all stages over the cores they share, and
the slowest stage; then one round trip, and one span of each other stage. For a feature that the
tail needs whole: head, then the longest of encoding, wire and decoding, then tail and one round
trip. The stages' own times are those of the same request over loopback, each by itself.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from featurewire_client import SplitClient
from featurewire_client.edge import SPAN_TOKENS
from featurewire_client.stats import InferStats

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

            for what, request in ((f"prompt of {PROMPT_TOKENS} tokens", prompt),
                                  ("feature of 1370 x 1536", feature)):  # fmt: skip
                progress(f"{what}, loopback")
                own = min([await request(server.address) for _ in range(REPEATS)],
                          key=lambda stats: stats.total_ms)  # fmt: skip
                for rate in rates_mbit:
                    progress(f"{what}, {rate:g} Mbit/s")
                    async with Relay(server.address, rate, rtt_ms) as link:
                        runs = [await request(link.address) for _ in range(REPEATS)]
                    rows.append(_row(what, rate, rtt_ms, own, runs))
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


def _row(
    what: str, rate_mbit: float, rtt_ms: float, own: InferStats, runs: list[InferStats]
) -> Overlap:
    wire_ms = 8 * own.sent_bytes / rate_mbit / 1000
    stages = [own.head_ms, own.encode_ms, own.decode_ms, own.tail_ms]
    if what.startswith("prompt"):
        shared = sum(stages) / min(2, os.cpu_count() or 1)
        longest = max(wire_ms, shared, *stages)
        spans = -(-PROMPT_TOKENS // SPAN_TOKENS)
        others = sum(sorted([wire_ms, *stages])[:-1]) / spans
        ideal = longest + rtt_ms + others
    else:
        ideal = own.head_ms + max(own.encode_ms, wire_ms, own.decode_ms) + own.tail_ms + rtt_ms
    return Overlap(
        what=what,
        rate_mbit=rate_mbit,
        rtt_ms=rtt_ms,
        sent_bytes=own.sent_bytes,
        wire_ms=wire_ms,
        head_ms=own.head_ms,
        encode_ms=own.encode_ms,
        decode_ms=own.decode_ms,
        tail_ms=own.tail_ms,
        sum_ms=sum(stages) + wire_ms + rtt_ms,
        ideal_ms=ideal,
        measured_ms=median(run.total_ms for run in runs),
    )
