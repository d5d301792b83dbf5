"""Nothing waits for the whole of a feature: stages work on parts of it at the same time."""

import time

import pytest
import torch
from featurewire_bench.relay import Relay
from featurewire_client import SplitClient
from featurewire_client.edge import Edge
from featurewire_client.session import Session as ClientSession
from featurewire_codec import Decoder
from featurewire_models import load_model
from featurewire_models.llama import LlamaTail

PROMPT = "This function returns the value of the given name. " * 32


@pytest.fixture
def events(monkeypatch):
    """When chunks were sent, spans were coded, and passes of the tail and decodings began."""
    seen: list[tuple[str, float]] = []

    def note(owner, name: str, event: str) -> None:
        original = getattr(owner, name)

        def noted(self, *arguments, **settings):
            seen.append((event, time.perf_counter()))
            return original(self, *arguments, **settings)

        monkeypatch.setattr(owner, name, noted)

    note(ClientSession, "send", "sent")
    note(LlamaTail, "steps", "tail")
    note(LlamaTail, "span", "tail")
    note(Decoder, "_decode_body", "decoded")
    return seen


def times(events, event: str) -> list[float]:
    return [at for name, at in events if name == event]


def one_feature(tokens: int) -> dict[str, torch.Tensor]:
    """A text of the wide model that goes as one feature, for its mask."""
    return {
        "input_ids": torch.randint(0, 97, (1, tokens)),
        "attention_mask": torch.ones(1, tokens, dtype=torch.bool),
        "logits_to_keep": torch.tensor(1),
    }


async def test_the_tail_runs_on_the_first_span_of_a_prompt_before_the_last_one_is_sent(
    serve, events
):
    async with serve("tiny-llama3") as server:
        with Relay(server.address, rate_mbit=0.5, rtt_ms=10) as link:
            async with SplitClient(link.address, "tiny-llama3") as client:
                async for _ in client.generate(PROMPT, max_tokens=1):
                    pass
                stats = client.last_stats
    passes = times(events, "tail")
    assert len(passes) >= 4
    # the wire is the slowest stage: the passes are spread over it instead of coming at its end
    assert passes[-1] - passes[0] > 0.3 * stats.total_ms / 1000


async def test_a_features_first_chunk_is_decoded_before_its_last_one_arrives(serve, events, wide):
    inputs = one_feature(1500)
    async with serve(wide) as server:
        with Relay(server.address, rate_mbit=10, rtt_ms=10) as link:
            async with SplitClient(link.address, str(wide), "layers.1", snr_db=10) as client:
                events.clear()
                result = await client.infer(inputs)
    decoded = times(events, "decoded")
    assert len(decoded) > 4
    assert decoded[-1] - decoded[0] > 0.3 * result.stats.total_ms / 1000
    whole = load_model(wide)(inputs).logits
    assert torch.nn.functional.cosine_similarity(result.output.logits, whole, -1).min() > 0.9


async def test_chunks_are_sent_while_the_next_ones_are_coded(serve, events, monkeypatch, wide):
    coded: list[float] = []
    chunks = Edge.chunks

    async def noted(self, *arguments):
        async for chunk in chunks(self, *arguments):
            coded.append(time.perf_counter())
            yield chunk

    monkeypatch.setattr(Edge, "chunks", noted)
    inputs = one_feature(1500)
    async with (
        serve(wide) as server,
        SplitClient(server.address, str(wide), "layers.1", snr_db=10) as client,
    ):
        events.clear()
        await client.infer(inputs)
    assert len(coded) > 4
    assert times(events, "sent")[0] < coded[-1]
