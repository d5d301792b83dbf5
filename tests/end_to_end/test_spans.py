"""A long text's inference goes span by span, as a prompt does, and gives what it gives whole."""

import asyncio
import contextlib
import time

import pytest
import torch
from featurewire_bench.relay import Relay
from featurewire_client import Budget, RefusedError, SplitClient
from featurewire_client import client as client_module
from featurewire_client.edge import Edge
from featurewire_client.quality import QualityControl
from featurewire_client.span import SPAN_TOKENS
from featurewire_models import InputError, load_model, load_processor
from featurewire_models.llama import LlamaHead, LlamaTail

MODEL = "tiny-llama3"
TEXT = "This function returns the value of the given name. " * 40
CACHE_BYTES = 2 * 4 * 2 * 32 * 4  # a token's keys and values in float32, four blocks of two heads
PART = 100  # tokens whose logits come back: of more than one span, and of a part of one


@pytest.fixture(scope="module")
def text() -> dict[str, torch.Tensor]:
    """A text of six full spans and a rest."""
    ids = load_processor(MODEL, "generation").inputs(TEXT)["input_ids"]
    assert 6 * SPAN_TOKENS < ids.shape[1] < 7 * SPAN_TOKENS
    return {"input_ids": ids}


@pytest.fixture(scope="module")
def last(text) -> dict[str, torch.Tensor]:
    """The same, with the last logits only: few bytes come back."""
    return {**text, "logits_to_keep": torch.tensor(1)}


@pytest.fixture
def passes(monkeypatch):
    """The tokens of every pass of the tail over a span."""
    seen: list[int] = []
    span = LlamaTail.span

    def noted(self, feature, cache, tokens):
        seen.append(feature.tensors["hidden"].shape[1])
        return span(self, feature, cache, tokens)

    monkeypatch.setattr(LlamaTail, "span", noted)
    return seen


async def no_caches_left(server) -> bool:
    for _ in range(100):
        if not server.reserved_cache_bytes:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_the_tail_has_begun_before_the_head_has_finished(serve, last, monkeypatch):
    heads, tails = [], []
    head, tail = LlamaHead.__call__, LlamaTail.span

    def slow_head(self, inputs, cache=None):
        time.sleep(0.05)  # as a larger one: this one would be through before a message is
        features = head(self, inputs, cache)
        heads.append(time.perf_counter())
        return features

    def noted_tail(self, feature, cache, tokens):
        tails.append(time.perf_counter())
        return tail(self, feature, cache, tokens)

    monkeypatch.setattr(LlamaHead, "__call__", slow_head)
    monkeypatch.setattr(LlamaTail, "span", noted_tail)
    async with serve(MODEL) as server, SplitClient(server.address, MODEL) as client:
        await client.infer(last)
        heads.clear()
        tails.clear()
        await client.infer(last)
    assert len(heads) == len(tails) == 7
    assert tails[3] < heads[-1]


@pytest.mark.parametrize("split", ["layers.0", "layers.4", "layers.8"])
async def test_float32_gives_what_the_unsplit_model_gives_for_the_same_spans(
    serve, text, passes, split
):
    whole = load_model(MODEL)
    cache = whole.new_cache()
    with torch.inference_mode():
        parts = torch.split(text["input_ids"], SPAN_TOKENS, dim=1)
        spans = torch.cat([whole({"input_ids": ids}, cache=cache).logits for ids in parts], dim=1)
        at_once = whole(text).logits
    async with (
        serve(MODEL) as server,
        SplitClient(server.address, MODEL, split=split, codec="float32") as client,
    ):
        logits = (await client.infer(text)).output.logits
    assert passes == [ids.shape[1] for ids in parts]
    assert torch.equal(logits, spans)
    torch.testing.assert_close(logits, at_once, rtol=1e-4, atol=1e-4)


async def test_the_answer_is_as_close_as_that_of_a_feature_sent_whole(serve, text, monkeypatch):
    exact = load_model(MODEL)(text).logits
    async with serve(MODEL) as server, SplitClient(server.address, MODEL, snr_db=25) as client:
        spans = await client.infer(text)
        monkeypatch.setattr(Edge, "takes_spans", lambda self, inputs: False)
        whole = await client.infer(text)
    assert spans.output.logits.shape == whole.output.logits.shape == exact.shape
    errors = [float((one.output.logits - exact).square().mean()) for one in (spans, whole)]
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    assert spans.stats.sent_bytes < 1.02 * whole.stats.sent_bytes
    assert spans.stats.features == whole.stats.features
    assert spans.stats.tail_ms > 0


async def test_the_logits_of_the_last_tokens_alone_come_back_where_they_are_asked_for(serve, text):
    async with (
        serve(MODEL) as server,
        SplitClient(server.address, MODEL, codec="float32") as client,
    ):
        every = (await client.infer(text)).output.logits
        for count in (1, PART, every.shape[1]):
            kept = {**text, "logits_to_keep": torch.tensor(count)}
            result = await client.infer(kept, outputs=["logits"])
            torch.testing.assert_close(
                result.output.logits, every[:, -count:], rtol=1e-4, atol=1e-4
            )
        with pytest.raises(RefusedError, match="gives no output 'loss'"):
            await client.infer(text, outputs=["loss"])
        assert torch.equal((await client.infer(text)).output.logits, every)
    assert await no_caches_left(server)


async def test_what_has_no_spans_goes_as_one_feature(serve, text, passes):
    ids = text["input_ids"]
    short = {"input_ids": ids[:, : 2 * SPAN_TOKENS - 1]}
    batch = {"input_ids": ids.repeat(2, 1)}
    masked = {**text, "attention_mask": torch.ones_like(ids)}
    placed = {**text, "position_ids": torch.arange(ids.shape[1])[None]}
    labelled = {**text, "labels": ids}
    chosen = {**text, "logits_to_keep": torch.tensor([5, 200])}
    whole = load_model(MODEL)
    async with (
        serve(MODEL) as server,
        SplitClient(server.address, MODEL, codec="float32") as client,
    ):
        for inputs in (short, batch, masked, placed, labelled, chosen):
            output = (await client.infer(inputs)).output
            assert torch.equal(output.logits, whole(inputs).logits)
        for bad in (torch.zeros(1, 600, dtype=torch.int64), torch.zeros(1, 300)):
            with pytest.raises(InputError):
                await client.infer({"input_ids": bad})
        for count in (-1, ids.shape[1] + 1):
            with pytest.raises(InputError, match="logits_to_keep reaches beyond"):
                await client.infer({**text, "logits_to_keep": torch.tensor(count)})
    assert not passes


async def test_a_budget_of_bytes_changes_the_quality_amid_a_text(serve, last, monkeypatch):
    monkeypatch.setattr(client_module, "known_rates", lambda _: {5.0: 0.2, 25.0: 1.2})  # a third
    chosen: list[float] = []
    choose = QualityControl.choose

    def noted(self, *arguments):
        chosen.append(choose(self, *arguments))
        return chosen[-1]

    monkeypatch.setattr(QualityControl, "choose", noted)
    async with serve(MODEL) as server:
        budget = Budget(request_bytes=6000)
        async with SplitClient(server.address, MODEL, budget=budget, snr_db=30) as client:
            sizes, qualities = [], []
            for _ in range(4):
                chosen.clear()
                stats = (await client.infer(last)).stats
                sizes.append(stats.sent_bytes)
                qualities.append(list(chosen))
                assert stats.snr_db == chosen[-1]
    assert all(len(one) == 7 for one in qualities)
    assert len(set(qualities[0])) > 1
    assert all(size <= 6000 for size in sizes[1:])


async def test_a_link_that_slows_tenfold_amid_a_text_lowers_the_quality_of_what_is_left(
    serve, last, monkeypatch
):
    chosen: list[float] = []
    choose = QualityControl.choose

    def noted(self, *arguments):
        chosen.append(choose(self, *arguments))
        if len(chosen) == 2:
            link.set_rate(0.04)
        return chosen[-1]

    async with serve(MODEL) as server:
        with Relay(server.address, rate_mbit=0.4, rtt_ms=10) as link:
            budget = Budget(latency_ms=3000)
            async with SplitClient(link.address, MODEL, budget=budget) as client:
                for _ in range(2):
                    await client.infer(last)
                monkeypatch.setattr(QualityControl, "choose", noted)
                await client.infer(last)
    assert len(chosen) == 7
    assert max(chosen[4:]) < min(chosen[:2])


async def test_a_link_that_breaks_amid_a_text_repeats_what_was_sent_and_changes_nothing(
    serve, text
):
    async with serve(MODEL, max_batch=1) as server:
        with Relay(server.address, rate_mbit=10) as link:
            async with SplitClient(link.address, MODEL, split="layers.4") as client:
                unbroken = await client.infer(text)
                link.set_rate(0.2)
                before = link.up_bytes
                task = asyncio.create_task(client.infer(text))
                half = before + unbroken.stats.sent_bytes / 2
                while link.up_bytes < half or not server.reserved_cache_bytes:
                    assert not task.done()
                    await asyncio.sleep(0.01)
                tokens, logits = unbroken.output.logits.shape[1:]
                assert server.reserved_cache_bytes == tokens * (CACHE_BYTES + 4 * logits)
                link.disconnect()
                link.set_rate(10)
                mended = await task
                assert await no_caches_left(server)
    assert mended.stats.replays == 1
    assert mended.stats.sent_bytes > unbroken.stats.sent_bytes
    assert torch.equal(mended.output.logits, unbroken.output.logits)


async def test_a_link_that_breaks_amid_the_answer_gives_it_whole(serve, text):
    async with serve(MODEL, max_batch=1) as server:
        with Relay(server.address, rate_mbit=50) as link:
            async with SplitClient(link.address, MODEL) as client:
                unbroken = await client.infer(text)
                before = link.down_bytes
                task = asyncio.create_task(client.infer(text))
                while link.down_bytes < before + unbroken.stats.received_bytes / 2:
                    assert not task.done()
                    await asyncio.sleep(0.005)
                link.disconnect()
                mended = await task
    assert mended.stats.replays == 1
    assert torch.equal(mended.output.logits, unbroken.output.logits)


async def test_a_text_whose_caller_leaves_gives_its_cache_back(serve, last):
    async with serve(MODEL) as server:
        with Relay(server.address, rate_mbit=0.1) as link:
            async with SplitClient(link.address, MODEL) as client:
                task = asyncio.create_task(client.infer(last))
                while not server.reserved_cache_bytes:
                    assert not task.done()
                    await asyncio.sleep(0.01)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                link.set_rate(100)
                assert await no_caches_left(server)
                assert (await client.infer(last)).stats.replays == 0
        assert await no_caches_left(server)


async def test_a_cache_beyond_the_memory_is_refused_with_a_time_to_retry(serve, last):
    async with serve(MODEL, cache_mb=1) as server:
        async with SplitClient(server.address, MODEL) as other:
            pieces = other.generate("Return the", max_tokens=400)
            await anext(pieces)
            async with SplitClient(server.address, MODEL) as client:
                with pytest.raises(
                    RefusedError, match="no memory for the request's cache"
                ) as refused:
                    await client.infer(last)
                assert refused.value.reason == "SERVER_FULL"
                assert refused.value.retry_s > 0
                await pieces.aclose()
                assert await no_caches_left(server)
                for _ in range(3):  # one after the other: each has given its own back
                    assert (await client.infer(last)).output.logits.shape == (1, 1, 2048)
        assert await no_caches_left(server)


async def test_outputs_that_wait_for_the_last_span_are_reserved_with_the_cache(serve, text, last):
    """The last split point has no cache; logits of all tokens take more than the server has."""
    vocabulary = 4 * load_model(MODEL).language_model.config.vocab_size
    size = text["input_ids"].shape[1] * vocabulary
    async with serve(MODEL, cache_mb=1) as server:
        async with SplitClient(server.address, MODEL, split="layers.8") as client:
            assert size > 1 << 20
            with pytest.raises(
                RefusedError, match=f"no memory for the request's cache, {size} bytes"
            ) as caught:
                await client.infer(text)
            assert (await client.infer(last)).output.logits.shape[1] == 1
        assert await no_caches_left(server)
    assert caught.value.reason == "CACHE_TOO_SMALL"
