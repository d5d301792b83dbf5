"""How near a request comes to the ideal pipeline: models and rates in, times against ideal out."""

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import truediv
from pathlib import Path
from statistics import median

import torch
from featurewire.wire.runtime import cores
from featurewire_client import SplitClient
from featurewire_client.span import span_tokens
from featurewire_client.stats import InferStats

from featurewire_bench.pipeline import alone_of, ideal_ms
from featurewire_bench.process import ServerProcess
from featurewire_bench.random_models import prompt_of, random_dinov2, random_llama
from featurewire_bench.relay import Relay
from featurewire_bench.stage_time import StageTimer

PROMPT_TOKENS = 1000
LAST = {"logits_to_keep": torch.tensor(1)}
REPEATS = 5


@dataclass(frozen=True)
class Overlap:
    """One request over one link, milliseconds.

    The stages by themselves, and `sum_ms`, what it takes one after the other. `idle_ideal_ms` is
    the ideal of these times; `ideal_ms` that of the processor time that the stages had in the very
    request: cores share caches and memory, and their speed wanders from one second to the next. It
    tells how well stages overlap; that they take longer than each by itself, `idle_ideal_ms` does.
    Each is the median of several runs, and `over_ideal` and `over_idle_ideal` those of their
    ratios: 1.1 is a tenth more than the ideal.
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
    over_ideal: float
    over_idle_ideal: float


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
        """The account of one request."""
        if not self.prompt:
            await client.infer(self.inputs, outputs=["logits"])
        else:
            async for _ in client.generate(self.prompt, max_tokens=1):
                pass
        assert client.last_stats is not None
        return client.last_stats


@dataclass(frozen=True)
class Run:
    """One request, and its stages: one after the other just before it, and in it; milliseconds."""

    stats: InferStats
    alone_ms: tuple[float, ...]
    stages_ms: tuple[float, ...]


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
            for work in every:
                stages = alone_of(work.model, work.split, work.inputs, snr_db)
                for rate in rates_mbit:
                    progress(f"{work.what}, {rate:g} Mbit/s")
                    async with Relay(server.address, rate, rtt_ms) as link:
                        runs = [
                            await _run(work, link.address, snr_db, server.id, stages)
                            for _ in range(REPEATS)
                        ]
                    rows.append(_row(work, rate, rtt_ms, runs))
    return rows


async def _run(
    work: Work, address: str, snr_db: float, server: int, stages: Callable[[], tuple[float, ...]]
) -> Run:
    """The second request of a session: the link's rate is known then."""
    async with SplitClient(address, str(work.model), work.split, snr_db=snr_db) as client:
        await work.run(client)
        alone_ms, timer = stages(), StageTimer([os.getpid(), server])
        stats = await work.run(client)
        return Run(stats, alone_ms, timer.stages_ms())


def _row(work: Work, rate_mbit: float, rtt_ms: float, runs: list[Run]) -> Overlap:
    sent_bytes = runs[0].stats.sent_bytes
    wire_ms = 8 * sent_bytes / rate_mbit / 1000
    head_ms, encode_ms, decode_ms, tail_ms = stages = [
        median(stage) for stage in zip(*(run.alone_ms for run in runs), strict=True)
    ]
    ideal, idle = (
        [ideal_ms(one, wire_ms, rtt_ms, work.spans, cores()) for one in every]
        for every in ([run.stages_ms for run in runs], [run.alone_ms for run in runs])
    )
    measured = [run.stats.total_ms for run in runs]
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
        idle_ideal_ms=median(idle),
        ideal_ms=median(ideal),
        measured_ms=median(measured),
        over_ideal=median(map(truediv, measured, ideal)),
        over_idle_ideal=median(map(truediv, measured, idle)),
    )
