"""How near a request comes to the ideal pipeline: models and rates in, times against ideal out."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from featurewire_client import SplitClient
from featurewire_client.span import span_tokens
from featurewire_client.stats import InferStats

from featurewire_bench.pipeline import alone_of, company, ideal_ms
from featurewire_bench.process import ServerProcess
from featurewire_bench.random_models import prompt_of, random_dinov2, random_llama
from featurewire_bench.relay import Relay

PROMPT_TOKENS = 1000
LAST = {"logits_to_keep": torch.tensor(1)}
REPEATS = 5


@dataclass(frozen=True)
class Overlap:
    """One request over one link, milliseconds.

    The stages by themselves, and `sum_ms`, what it takes one after the other. `idle_ideal_ms` is
    the ideal of these times; `ideal_ms` of the times that a prompt's stages take while other cores
    do the same work, as they do in a pipeline.
    """

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
    idle_ideal_ms: float
    ideal_ms: float
    measured_ms: float

    @property
    def over_ideal(self) -> float:
        """1.1: a tenth more than the ideal."""
        return self.measured_ms / self.ideal_ms


@dataclass(frozen=True)
class Work:
    """A request whose stages are to overlap: a prompt's time to its first token, or an inference.

    `prompt` is the text of the inputs' ids, to be continued; without one they are inferred.
    """

    what: str
    model: Path
    split: str
    inputs: dict[str, torch.Tensor]
    prompt: str = ""

    @property
    def spans(self) -> int:
        """Spans that a text goes in; 0 for a feature that is needed whole."""
        ids = self.inputs.get("input_ids")
        return 0 if ids is None else -(-ids.shape[1] // span_tokens(ids.shape[1]))

    async def run(self, client: SplitClient) -> InferStats:
        """The account of one request, the second of its session: the link's rate is known then."""
        for _ in range(2):
            if not self.prompt:
                await client.infer(self.inputs, outputs=["logits"])
                continue
            async for _ in client.generate(self.prompt, max_tokens=1):
                pass
        assert client.last_stats is not None
        return client.last_stats


def works(folder: Path) -> list[Work]:
    """A text of 1000 tokens and a feature of 1370 x 1536; their models go to the folder."""
    llama = random_llama(folder)
    dinov2 = random_dinov2(folder, 1536, 2, 518)  # of the giant's width, with two blocks
    ids = {"input_ids": torch.arange(PROMPT_TOKENS)[None] * 7 % 4096}
    pixels = torch.randn(1, 3, 518, 518, generator=torch.Generator().manual_seed(1))
    return [
        Work(f"prompt of {PROMPT_TOKENS} tokens", llama, "layers.4", ids, prompt_of(PROMPT_TOKENS)),
        Work(f"text of {PROMPT_TOKENS} tokens", llama, "layers.4", ids | LAST),
        Work("feature of 1370 x 1536", dinov2, "layers.1", {"pixel_values": pixels}),
    ]


async def run_overlap(
    rates_mbit: Sequence[float], rtt_ms: float, snr_db: float, progress: Callable[[str], None]
) -> list[Overlap]:
    """Measures each of `works` over every link.

    Raises:
        BenchError: the server does not start.
        ClientError, ModelError, CodecError: a request fails.
    """
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        every = works(Path(folder))
        models = list(dict.fromkeys(str(work.model) for work in every))
        with ServerProcess(models, ["--threads", "1"]) as server:

            async def request(work: Work, address: str) -> InferStats:
                model = str(work.model)
                async with SplitClient(address, model, work.split, snr_db=snr_db) as client:
                    return await work.run(client)

            for work in every:
                progress(f"{work.what}, stage by stage")
                own = await request(work, server.address)
                stages = alone_of(work.model, work.split, work.inputs, snr_db)
                alone = busy = _middle(stages)
                if work.spans:
                    with company(work.model, work.split, work.inputs, snr_db):
                        busy = _middle(stages)
                for rate in rates_mbit:
                    progress(f"{work.what}, {rate:g} Mbit/s")
                    async with Relay(server.address, rate, rtt_ms) as link:
                        runs = [await request(work, link.address) for _ in range(REPEATS)]
                    rows.append(_row(work, rate, rtt_ms, own.sent_bytes, alone, busy, runs))
    return rows


def _middle(stages: Callable[[], tuple[float, ...]]) -> tuple[float, ...]:
    """The stages of the run that took the median time, as the requests are told by their median."""
    return sorted((stages() for _ in range(REPEATS)), key=sum)[REPEATS // 2]


def _row(
    work: Work,
    rate_mbit: float,
    rtt_ms: float,
    sent_bytes: int,
    stages: tuple[float, ...],
    busy: tuple[float, ...],
    runs: list[InferStats],
) -> Overlap:
    wire_ms = 8 * sent_bytes / rate_mbit / 1000
    head_ms, encode_ms, decode_ms, tail_ms = stages
    cores = min(2, os.cpu_count() or 1)
    return Overlap(
        what=work.what,
        rate_mbit=rate_mbit,
        rtt_ms=rtt_ms,
        sent_bytes=sent_bytes,
        wire_ms=wire_ms,
        head_ms=head_ms,
        encode_ms=encode_ms,
        decode_ms=decode_ms,
        tail_ms=tail_ms,
        sum_ms=sum(stages) + wire_ms + rtt_ms,
        idle_ideal_ms=ideal_ms(stages, wire_ms, rtt_ms, work.spans, cores),
        ideal_ms=ideal_ms(busy, wire_ms, rtt_ms, work.spans, cores),
        measured_ms=median(run.total_ms for run in runs),
    )
