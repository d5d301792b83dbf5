"""A large language model split over loopback beside the same model whole: its shape in, times out.

The weights are random, which changes no time, except that their features take more bits than
trained ones'. Head, tail and the whole model compute in one dtype on one device; the whole model is
transformers' own class, and its text is made by its own `generate`.
"""

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

import torch
from featurewire.wire.runtime import cores
from featurewire_client import SplitClient
from featurewire_client.stats import InferStats
from featurewire_models import load_model
from featurewire_models.weights import place
from transformers.generation.streamers import BaseStreamer

from featurewire_bench.account import Stages
from featurewire_bench.process import ServerProcess
from featurewire_bench.random_models import LlamaShape, large_llama, prompt_of

REPEATS = 3  # after one that only warms up
START_S = 400.0  # for a server to read tens of gigabytes
STEP_S = 120.0  # for one answer: the first one loads kernels


@dataclass(frozen=True)
class LargeConfig:
    """What is measured; `codecs` one after the other."""

    shape: LlamaShape
    split: str = "layers.4"
    dtype: str = "bfloat16"
    device: str = "auto"
    codecs: tuple[str, ...] = ("featurewire",)
    snr_db: float = 25.0
    prompt_tokens: int = 1000
    tokens: int = 64


@dataclass(frozen=True)
class Timed:
    """One way to make a text: `prefill_ms` to its first token, then `tokens_s` tokens a second.

    Of a split model: the bytes of the prompt and of each token after it, and the stages of both.
    """

    way: str
    prefill_ms: float
    tokens_s: float
    prompt_bytes: float = 0.0
    token_bytes: float = 0.0
    prefill: Stages | None = None
    token: Stages | None = None

    @classmethod
    def of(cls, way: str, firsts: Sequence[InferStats], wholes: Sequence[InferStats]) -> Self:
        """From runs of one token, and runs of more."""
        later = median(one.tokens for one in wholes) - 1
        first, whole = Stages.medians(firsts), Stages.medians(wholes)
        token = {
            stage: max(ms - asdict(first)[stage], 0.0) / later
            for stage, ms in asdict(whole).items()
        }
        token["total"] = median(one.total_ms - one.first_token_ms for one in wholes) / later
        prompt_bytes = median(one.sent_bytes for one in firsts)
        return cls(
            way=way,
            prefill_ms=median(one.first_token_ms for one in firsts),
            tokens_s=1000 / token["total"],
            prompt_bytes=prompt_bytes,
            token_bytes=(median(one.sent_bytes for one in wholes) - prompt_bytes) / later,
            prefill=first,
            token=Stages(**token),
        )


@dataclass(frozen=True)
class Large:
    """The device, and what was measured on it: the whole model first."""

    device: str
    config: LargeConfig
    rows: list[Timed]

    def as_dict(self) -> dict[str, Any]:
        """Every figure, for JSON."""
        return asdict(self)


def step_count(config: LargeConfig) -> int:
    """How often `run_large` says what it does."""
    return 2 + 2 * len(config.codecs)


async def run_large(
    config: LargeConfig, folder: Path | None, progress: Callable[[str], None]
) -> Large:
    """Writes the model below `folder` and measures it; nothing of it stays.

    Raises:
        BenchError: the server does not start.
        ModelError: there is no such split point, dtype or device.
        ClientError, CodecError: a request fails.
    """
    device = place(config.dtype, config.device).device
    with tempfile.TemporaryDirectory(prefix="featurewire-large-", dir=folder) as made:
        progress("writing random weights")
        model = large_llama(Path(made), config.shape)
        progress("unsplit")
        rows = [_unsplit(config, model)]
        for codec in config.codecs:
            rows.append(await _split(config, model, codec, progress))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{cores()} CPU cores"
    return Large(name, config, rows)


def _unsplit(config: LargeConfig, model: Path) -> Timed:
    """transformers' own way."""
    whole = load_model(model, dtype=config.dtype, device=config.device)
    network = getattr(whole, "language_model")  # noqa: B009
    ids = torch.tensor([[int(word[1:]) for word in _prompt(config).split()]])
    ids = ids.to(next(network.parameters()).device)
    runs = [_generated(network, ids, config.tokens) for _ in range(REPEATS + 1)][1:]
    del whole, network
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    prefill_s = median(first for first, _ in runs)
    return Timed("unsplit", 1000 * prefill_s, (config.tokens - 1) / median(s for _, s in runs))


class _Clock(BaseStreamer):  # type: ignore[misc]
    """When the prompt was given to `generate`, and each token was there."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        """Takes the prompt, and then token by token."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """No more come."""


def _generated(network: Any, ids: torch.Tensor, tokens: int) -> tuple[float, float]:
    """Seconds to the first token, and from it to the last."""
    clock, started = _Clock(), time.perf_counter()
    with torch.inference_mode():
        network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=tokens,
            pad_token_id=0,
            streamer=clock,
        )
    _, first, *_, last = clock.times
    return first - started, last - first


async def _split(
    config: LargeConfig, model: Path, codec: str, progress: Callable[[str], None]
) -> Timed:
    progress(f"{codec}: loading")
    placed = ["--dtype", config.dtype, "--device", config.device, "--split", config.split]
    with ServerProcess([str(model)], placed, START_S) as server:
        client = SplitClient(
            server.address,
            str(model),
            config.split,
            codec=codec,
            snr_db=config.snr_db,
            dtype=config.dtype,
            device=config.device,
            timeout_s=STEP_S,
        )
        async with client:
            progress(f"{codec}: running")
            first = [await _text(client, config, 1) for _ in range(REPEATS + 1)][1:]
            whole = [await _text(client, config, config.tokens) for _ in range(REPEATS + 1)][1:]
    return Timed.of(codec, first, whole)


async def _text(client: SplitClient, config: LargeConfig, tokens: int) -> InferStats:
    async for _ in client.generate(_prompt(config), max_tokens=tokens):
        pass
    assert client.last_stats is not None
    return client.last_stats


def _prompt(config: LargeConfig) -> str:
    return prompt_of(config.prompt_tokens, config.shape.words)
