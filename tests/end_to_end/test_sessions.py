"""Many generations at once: shared passes, prompts in spans, bounds, idle and cancelled ones."""

import asyncio
import contextlib
import time

import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire_client import RefusedError, SplitClient
from featurewire_client.span import SPAN_TOKENS
from featurewire_models import halves, load_model, load_processor
from featurewire_models.llama import LlamaTail
from featurewire_server.sampling import next_token

MODEL = "tiny-llama3"
PROMPTS = [
    "Return the",
    "The value of a",
    "If the file",
    "def",
    "This module provides a way to",
    "It is an error",
    "Changed in version",
    "import the name of the module and then",
]
LONG = "This function returns the value of the given name. " * 24


async def text_of(client: SplitClient, prompt: str, **settings) -> str:
    return "".join([piece async for piece in client.generate(prompt, **settings)])


async def rest_of(pieces) -> str:
    return "".join([piece async for piece in pieces])


async def alone(address: str, prompt: str, **settings) -> str:
    async with SplitClient(address, MODEL, codec="float32") as client:
        return await text_of(client, prompt, **settings)


@pytest.fixture
def passes(monkeypatch):
    """The numbers of sequences and of tokens in every pass of the tail."""
    seen: list[tuple[int, int]] = []
    steps = LlamaTail.steps

    def counted(self, features, caches):
        tokens = sum(feature.tensors["hidden"].shape[1] for feature in features)
        seen.append((len(features), tokens))
        return steps(self, features, caches)

    monkeypatch.setattr(LlamaTail, "steps", counted)
    return seen


async def test_steps_of_many_sessions_share_passes_and_give_each_its_own_text(serve, passes):
    async with serve(MODEL, max_batch=1) as server:
        expected = [await alone(server.address, prompt, max_tokens=20) for prompt in PROMPTS]
    assert {sequences for sequences, _ in passes} == {1}
    passes.clear()
    async with serve(MODEL) as server:
        together = (alone(server.address, prompt, max_tokens=20) for prompt in PROMPTS)
        assert await asyncio.gather(*together) == expected
    assert max(sequences for sequences, _ in passes) > 2
    tokens = sum(sequences for sequences, _ in passes)
    assert tokens == 20 * len(PROMPTS)
    assert len(passes) < tokens


def slow_spans(monkeypatch):
    """Passes of spans take long enough for another session's next step to come meanwhile."""
    steps = LlamaTail.steps

    def slow(self, features, caches):
        if max(feature.tensors["hidden"].shape[1] for feature in features) > 1:
            time.sleep(0.2)
        return steps(self, features, caches)

    monkeypatch.setattr(LlamaTail, "steps", slow)


async def test_a_long_prompt_goes_in_spans_and_others_are_served_between_them(
    serve, passes, monkeypatch
):
    slow_spans(monkeypatch)
    processor, model = load_processor(MODEL, "generation"), load_model(MODEL)
    ids = processor.inputs(LONG)["input_ids"]
    assert ids.shape[1] > 2 * SPAN_TOKENS
    async with serve(MODEL) as server, SplitClient(server.address, MODEL) as other:
        pieces = other.generate("Return the", max_tokens=400)
        await anext(pieces)
        busy = asyncio.create_task(rest_of(pieces))
        text = await alone(server.address, LONG, max_tokens=8)
        busy.cancel()
    spans = [number for number, (_, tokens) in enumerate(passes) if tokens > 8]
    assert sum(passes[number][1] for number in spans) >= ids.shape[1] - SPAN_TOKENS
    assert max(passes[number][1] for number in spans) == SPAN_TOKENS
    assert spans[-1] - spans[1] > len(spans) - 2  # steps in between
    cache, words = model.new_cache(), []
    for _ in range(8):
        with torch.inference_mode():
            logits = model({"input_ids": ids}, cache=cache).logits
        words.append(next_token(logits[0, -1], pb.Sampling(), 0))
        ids = torch.tensor([words[-1:]])
    assert text == processor.decode(words)


async def test_spans_of_a_prompt_are_joined_to_passes_of_the_tail(serve, passes, monkeypatch):
    monkeypatch.setattr(halves, "PASS_TOKENS", 3 * SPAN_TOKENS - 1)  # as a GPU has many
    tokens = load_processor(MODEL, "generation").inputs(LONG)["input_ids"].shape[1]
    assert 3 * SPAN_TOKENS < tokens < 5 * SPAN_TOKENS
    async with serve(MODEL) as server, SplitClient(server.address, MODEL) as client:
        text = await text_of(client, LONG, max_tokens=4)
    first = 3 * SPAN_TOKENS - 1  # two spans and one that ends with the head's pass
    assert passes == [(1, first), (1, tokens - first), (1, 1), (1, 1), (1, 1)]
    assert text


def parts_of(message):
    return " ".join(field.name for field, _ in message.ListFields())


async def test_a_step_is_one_message_each_way(serve, monkeypatch):
    sent, answers = [], []
    write, read = "featurewire_client.session.Session._write", "featurewire_client.session.Session"
    from featurewire_client.session import Session

    original_write, original_read = Session._write, Session._read

    async def counted_write(self, message):
        sent.append(parts_of(message))
        await original_write(self, message)

    async def counted_read(self):
        response = await original_read(self)
        answers.append(parts_of(response))
        return response

    monkeypatch.setattr(write, counted_write)
    monkeypatch.setattr(f"{read}._read", counted_read)
    async with serve(MODEL) as server, SplitClient(server.address, MODEL) as client:
        await text_of(client, "Return the", max_tokens=10)
        stats = client.last_stats
    assert sent == ["handshake", "begin chunk", *["chunk"] * 9]
    assert answers == ["handshake", *["token"] * 9, "token account"]
    assert stats.tail_ms > 0
    assert stats.sent_bytes / 10 < 128 * 2  # less than half of float16, the prompt included


async def test_the_server_ends_a_text_at_a_stop_string(serve, passes):
    async with serve(MODEL) as server, SplitClient(server.address, MODEL) as client:
        whole = await text_of(client, "Return the", max_tokens=30)
        assert client.finish_reason == "length"
        stop = " ".join(whole.split()[4:6])
        passes.clear()
        text = await text_of(client, "Return the", max_tokens=30, stop=["no such text", stop])
        assert client.finish_reason == "stop"
    assert text == whole.split(stop)[0]
    assert len(passes) < 30


async def test_a_generation_that_is_left_frees_the_server_at_once(serve):
    async with serve(MODEL) as server, SplitClient(server.address, MODEL) as client:
        pieces = client.generate("Return the", max_tokens=400)
        await anext(pieces)
        assert server.reserved_cache_bytes > 0
        await pieces.aclose()
        for _ in range(100):
            if not server.reserved_cache_bytes:
                break
            await asyncio.sleep(0.02)
        assert server.open_sessions == 0
        assert server.reserved_cache_bytes == 0
        assert len(await text_of(client, "Return the", max_tokens=3)) > 0


async def test_a_cancelled_generation_stops_on_both_sides(serve, passes):
    async with serve(MODEL) as server, SplitClient(server.address, MODEL) as client:
        pieces = client.generate("Return the", max_tokens=400)
        await anext(pieces)
        task = asyncio.create_task(rest_of(pieces))
        await asyncio.sleep(0.05)
        assert not task.done()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)
        count = len(passes)
        await asyncio.sleep(0.2)
        assert len(passes) == count
        assert len(await text_of(client, "Return the", max_tokens=3)) > 0


async def test_caches_beyond_the_memory_are_refused_with_a_time_to_retry(serve):
    async with serve(MODEL, cache_mb=1) as server:
        async with SplitClient(server.address, MODEL) as first:
            pieces = first.generate("Return the", max_tokens=400)
            await anext(pieces)
            with pytest.raises(RefusedError, match="no memory for the request's cache") as refused:
                await alone(server.address, "Return the", max_tokens=400)
            assert refused.value.reason == "SERVER_FULL"
            assert refused.value.retry_s > 0
            await pieces.aclose()
            async with SplitClient(server.address, MODEL) as small:
                assert len(await text_of(small, "Return the", max_tokens=4)) > 0
        assert len(await alone(server.address, "Return the", max_tokens=400)) > 0


async def test_an_idle_session_is_ended_and_its_client_goes_on_with_a_new_one(serve, server_log):
    async with serve(MODEL, idle_s=0.3) as server, SplitClient(server.address, MODEL) as client:
        first = await text_of(client, "Return the", max_tokens=5)
        await asyncio.sleep(0.8)
        assert server.open_sessions == 0
        assert any("SESSION_IDLE" in line for line in server_log())
        assert await text_of(client, "Return the", max_tokens=5) == first


async def test_a_caller_that_pauses_longer_than_the_server_waits_gets_the_same_text(serve):
    async with serve(MODEL, idle_s=0.3) as server, SplitClient(server.address, MODEL) as client:
        whole = await text_of(client, "Return the", max_tokens=12)
        pieces = client.generate("Return the", max_tokens=12)
        text = await anext(pieces)
        await asyncio.sleep(0.8)
        text += "".join([piece async for piece in pieces])
        assert text == whole
        assert client.last_stats.replays == 1
