"""Nothing waits for the whole of a feature: stages work on parts of it at the same time."""

import threading
import time

import pytest
import torch
from featurewire_bench.relay import Relay
from featurewire_client import Budget, SplitClient, edge
from featurewire_client.edge import Edge
from featurewire_client.session import Session as ClientSession
from featurewire_client.span import SPAN_TOKENS
from featurewire_codec import Decoder
from featurewire_models import load_model
from featurewire_models.llama import LlamaTail
from featurewire_server import decoding
from featurewire_server import server as server_server
from featurewire_server import session as server_session

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
    wire_s = 8 * result.stats.sent_bytes / 10e6  # most of it behind the first of many chunks
    assert decoded[-1] - decoded[0] > 0.3 * wire_s
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


class Company:
    """Counts how many are inside something at once; each waits until two are, 0.1 s at most."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._changed:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most > 1, timeout=0.1)

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1


def in_company(monkeypatch, owner, name: str) -> Company:
    company, original = Company(), getattr(owner, name)

    def accompanied(*arguments, **settings):
        with company:
            return original(*arguments, **settings)

    monkeypatch.setattr(owner, name, accompanied)
    return company


@pytest.mark.parametrize("threads", [1, 3])
async def test_spans_are_coded_side_by_side_where_there_are_cores_for_it(
    serve, monkeypatch, threads
):
    ids = {"input_ids": torch.arange(6 * SPAN_TOKENS)[None] % 97}
    whole = load_model("tiny-llama3")(ids).logits
    for user in (edge, server_session, server_server):
        monkeypatch.setattr(user, "coding_threads", lambda: threads)
    monkeypatch.setattr(decoding, "_INLINE_FEATURES", 0)
    encoders = in_company(monkeypatch, edge, "code_span")
    decoders = in_company(monkeypatch, decoding.Decoding, "_decode")
    async with (
        serve("tiny-llama3") as server,
        SplitClient(server.address, "tiny-llama3", codec="float32") as client,
    ):
        logits = (await client.infer(ids)).output.logits
    assert torch.allclose(logits, whole, atol=1e-4)
    for company in (encoders, decoders):
        assert company.most == 1 if threads == 1 else 1 < company.most <= threads


async def test_spans_whose_quality_follows_the_link_are_coded_one_after_the_other(
    serve, monkeypatch
):
    monkeypatch.setattr(edge, "coding_threads", lambda: 3)
    encoders = in_company(monkeypatch, edge, "code_span")
    budget = Budget(latency_ms=60_000)
    async with (
        serve("tiny-llama3") as server,
        SplitClient(server.address, "tiny-llama3", budget=budget) as client,
    ):
        await client.infer({"input_ids": torch.arange(4 * SPAN_TOKENS)[None] % 97})
    assert encoders.most == 1


@pytest.mark.parametrize(("batch", "beside"), [(2, False), (40, True)])
async def test_many_short_samples_are_decoded_beside_the_event_loop(
    serve, monkeypatch, batch, beside
):
    threads: list[str] = []
    finish = decoding.Decoding._finish

    def noted(self, *arguments):
        threads.append(threading.current_thread().name)
        return finish(self, *arguments)

    monkeypatch.setattr(decoding.Decoding, "_finish", noted)
    async with serve("tiny-llama3") as server, SplitClient(server.address, "tiny-llama3") as client:
        await client.infer({"input_ids": torch.ones(batch, 2, dtype=torch.int64)})
    assert [name.startswith("decode") for name in threads] == [beside]
