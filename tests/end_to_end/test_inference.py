"""What comes back over a real socket is what the unsplit model gives, with a true account."""

import asyncio

import pytest
import torch
from featurewire_client import DeadlineError, SplitClient, SyncSplitClient
from featurewire_models import load_model

IDS = {"input_ids": torch.tensor([[5, 6, 7, 8, 9, 10, 11]])}


@pytest.mark.parametrize("split", [f"layers.{k}" for k in range(5)])
async def test_float32_over_the_wire_equals_the_unsplit_model_bit_for_bit(llama, serve, split):
    inputs = {
        "input_ids": torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]),
        "attention_mask": torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]]),
    }
    async with serve(llama) as server:
        address = server.address
        async with SplitClient(address, str(llama), split=split, codec="float32") as client:
            result = await client.infer(inputs)
    assert torch.equal(result.output.logits, load_model(llama)(inputs).logits)


async def test_float32_needs_four_bytes_a_feature_and_its_framing(llama, serve):
    async with (
        serve(llama) as server,
        SplitClient(server.address, str(llama), codec="float32") as client,
    ):
        stats = (await client.infer(IDS)).stats
    assert stats.features == 7 * 32
    assert stats.raw_bytes == 4 * 7 * 32
    assert stats.raw_bytes < stats.sent_bytes < stats.raw_bytes + 100
    assert stats.bpfp == 8 * stats.sent_bytes / stats.features


async def test_the_feature_codec_sends_less_and_comes_closer_with_more_decibels(llama, serve):
    exact = load_model(llama)(IDS).logits
    sent, errors = [], []
    async with serve(llama) as server:
        for snr_db in (5, 20, 50):
            address = server.address
            async with SplitClient(address, str(llama), profile=None, snr_db=snr_db) as client:
                result = await client.infer(IDS)
            sent.append(result.stats.sent_bytes)
            errors.append(float((result.output.logits - exact).abs().max()))
    assert sent == sorted(sent)
    assert sent[1] < 2 * 7 * 32
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01 * float(exact.abs().max())


async def test_the_stages_add_up_to_the_total(llama, serve):
    async with serve(llama) as server, SplitClient(server.address, str(llama)) as client:
        stats = (await client.infer(IDS)).stats
    names = ("head", "encode", "network", "queue", "decode", "tail")
    stages = [getattr(stats, f"{name}_ms") for name in names]
    assert min(stages) >= 0
    assert sum(stages) == pytest.approx(stats.total_ms)
    assert min(stats.head_ms, stats.tail_ms, stats.network_ms) > 0


async def test_only_the_outputs_asked_for_come_back(llama, serve):
    async with serve(llama) as server, SplitClient(server.address, str(llama)) as client:
        every = await client.infer(IDS)
        assert list(every.output) == ["logits"]
        named = await client.infer(IDS, outputs=["logits"])
        assert torch.equal(named.output.logits, every.output.logits)


async def test_one_session_serves_requests_one_after_the_other(llama, serve):
    async with serve(llama) as server, SplitClient(server.address, str(llama)) as client:
        answers = await asyncio.gather(*(client.infer(IDS) for _ in range(5)))
    assert all(torch.equal(a.output.logits, answers[0].output.logits) for a in answers)


async def test_a_feature_of_many_chunks_passes_the_window(llama, serve, monkeypatch):
    monkeypatch.setattr("featurewire.wire.coder.MAX_CHUNK_BYTES", 16)
    async with (
        serve(llama) as server,
        SplitClient(server.address, str(llama), codec="float32") as client,
    ):
        result = await client.infer(IDS)
    assert torch.equal(result.output.logits, load_model(llama)(IDS).logits)


async def test_the_model_runs_in_the_server_and_only_its_split_is_held(llama, serve):
    async with (
        serve(llama, split="layers.2") as server,
        SplitClient(server.address, str(llama), codec="float32") as client,
    ):
        assert client.split == "layers.2"
        result = await client.infer(IDS)
    assert torch.equal(result.output.logits, load_model(llama)(IDS).logits)


async def test_without_async_the_answer_is_the_same(llama, serve):
    def blocking(address: str) -> torch.Tensor:
        with SyncSplitClient(address, str(llama), codec="float32") as client:
            return client.infer(IDS).output.logits

    async with serve(llama) as server:
        logits = await asyncio.to_thread(blocking, server.address)
    assert torch.equal(logits, load_model(llama)(IDS).logits)


async def test_a_server_that_does_not_answer_is_given_up_in_time(llama, serve, monkeypatch):
    def stuck(self, coded, samples):
        import time

        time.sleep(2.5)

    async with (
        serve(llama) as server,
        SplitClient(server.address, str(llama), timeout_s=1.0) as client,
    ):
        monkeypatch.setattr("featurewire_server.decoding.Decoding._decode", stuck)
        with pytest.raises(DeadlineError, match="within 1 s"):
            await client.infer(IDS)
        monkeypatch.undo()
        async with SplitClient(server.address, str(llama)) as other:
            assert (await other.infer(IDS)).output.logits.shape == (1, 7, 97)


async def test_a_client_goes_on_after_its_server_was_started_again(llama, serve):
    async with serve(llama) as server:
        address = server.address
        client = await SplitClient(address, str(llama)).__aenter__()
        before = await client.infer(IDS)
    async with serve(llama, listen=address):
        after = await client.infer(IDS)
        await client.close()
    assert torch.equal(before.output.logits, after.output.logits)


async def test_a_server_that_never_shakes_hands_is_given_up_in_time(llama, serve, monkeypatch):
    async def silent(connection, offer, link=None):
        await asyncio.sleep(60)

    monkeypatch.setattr("featurewire_client.sessions.Session.open", silent)
    async with serve(llama) as server:
        with pytest.raises(DeadlineError, match="no handshake"):
            await SplitClient(server.address, str(llama), timeout_s=1.0).__aenter__()
