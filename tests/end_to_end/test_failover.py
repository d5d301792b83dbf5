"""A broken link, a killed or a silent server: the caller sees the same text, token for token."""

import asyncio
import signal
import time

import pytest
import torch
from drawn_text import ALONE, DRAWN, MODEL, PROMPT, text_of
from featurewire_bench.process import ServerProcess
from featurewire_bench.relay import Relay
from featurewire_client import Budget, ClientError, DeadlineError, SplitClient
from featurewire_client.connection import probe
from featurewire_models import load_processor


@pytest.mark.parametrize("after", [0, 1, 17])
async def test_a_killed_server_is_invisible_to_the_caller(spare, unbroken, after):
    with ServerProcess([MODEL], ALONE) as doomed:
        async with SplitClient(f"{doomed.address},{spare.address}", MODEL) as client:
            pieces = client.generate(PROMPT, **DRAWN)
            text = ""
            if not after:
                doomed.kill()
            for _ in range(after):
                text += await anext(pieces)
            doomed.kill()
            text += await text_of(pieces)
            stats = client.last_stats
    assert text == unbroken
    assert stats.replays >= (after > 0)
    assert stats.tokens == 40
    # what a token costs to keep: far below the 256 bytes of its float16 features
    assert 0 < stats.kept_bytes_a_token < 200
    assert stats.kept_bytes_a_token * (stats.tokens + 120) == pytest.approx(
        stats.kept_bytes, rel=0.1
    )
    assert "bytes a token kept" in str(stats)


async def test_a_broken_link_is_mended_on_the_same_server(spare, unbroken):
    with Relay(spare.address) as link:
        async with SplitClient(link.address, MODEL) as client:
            pieces = client.generate(PROMPT, **DRAWN)
            text = await anext(pieces)
            for _ in range(3):
                link.disconnect()
                text += await anext(pieces)
            text += await text_of(pieces)
            assert client.last_stats.replays == 3
    assert text == unbroken


async def test_a_link_that_breaks_amid_a_prompt_repeats_what_was_sent(spare, unbroken):
    with Relay(spare.address, rate_mbit=0.2) as link:
        async with SplitClient(link.address, MODEL) as client:
            task = asyncio.create_task(text_of(client.generate(PROMPT, **DRAWN)))
            before = link.up_bytes
            for _ in range(500):
                if link.up_bytes > before + 1500:
                    break
                await asyncio.sleep(0.01)
            link.disconnect()
            link.set_rate(100)
            assert await task == unbroken
            assert client.last_stats.replays == 1


async def test_a_client_that_is_closed_while_its_session_moves_leaves_none_open(serve):
    async with serve(MODEL) as other, serve(MODEL, grace_s=0) as doomed:
        with Relay(doomed.address, rtt_ms=1000) as near, Relay(other.address, rtt_ms=600) as far:
            client = SplitClient(f"{near.address},{far.address}", MODEL)
            await client.__aenter__()
            task = asyncio.create_task(client.infer({"input_ids": torch.tensor([[5, 6]])}))
            await asyncio.sleep(0.3)  # until all of it is on its way
            near.disconnect()
            await asyncio.sleep(1.0)  # amid what opening a session takes over the other link
            await client.close()
            with pytest.raises(ClientError, match="closed"):
                await task
            for _ in range(100):
                if not other.open_sessions:
                    break
                await asyncio.sleep(0.05)
            assert not other.open_sessions


async def test_a_server_that_falls_silent_is_given_up(spare, unbroken):
    """It is stopped, not killed: only its missing answers tell."""
    with ServerProcess([MODEL], ALONE) as silent:
        async with SplitClient(f"{silent.address},{spare.address}", MODEL) as client:
            pieces = client.generate(PROMPT, **DRAWN)
            text = await anext(pieces)
            silent.kill(signal.SIGSTOP)
            try:
                text += await text_of(pieces)
            finally:
                silent.kill(signal.SIGCONT)
            assert client.last_stats.replays == 1
    assert text == unbroken


async def test_a_one_shot_request_is_repeated_elsewhere(spare):
    inputs = load_processor(MODEL, "generation").inputs(PROMPT)
    with ServerProcess([MODEL], ALONE) as doomed:
        async with SplitClient(f"{doomed.address},{spare.address}", MODEL) as client:
            before = await client.infer(inputs)
            doomed.kill()
            after = await client.infer(inputs)
    assert torch.equal(before.output.logits, after.output.logits)


@pytest.mark.parametrize(
    ("in_spans", "end"),
    [(False, signal.SIGKILL), (True, signal.SIGKILL), (True, signal.SIGTERM)],
)
async def test_a_server_that_ends_amid_a_feature_is_replaced_and_the_answer_is_the_same(
    wide, in_spans, end
):
    """Only a part of the feature has come when it dies or drains: all goes to the other one."""
    ids = torch.randint(0, 97, (1, 1500), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": ids, "logits_to_keep": torch.tensor(2)}
    if not in_spans:
        inputs["attention_mask"] = torch.ones(1, 1500, dtype=torch.bool)
    settings = {"model": str(wide), "split": "layers.1", "snr_db": 10}
    with (
        ServerProcess([str(wide)], ALONE) as other,
        ServerProcess([str(wide)], ALONE) as doomed,
        Relay(doomed.address, rate_mbit=0.4) as link,
    ):
        async with SplitClient(other.address, **settings) as client:
            unbroken = await client.infer(inputs)
        async with SplitClient(f"{link.address},{other.address}", **settings) as client:
            before = link.up_bytes
            task = asyncio.create_task(client.infer(inputs))
            while link.up_bytes < before + 80_000:
                assert not task.done()
                await asyncio.sleep(0.01)
            doomed.kill(end)
            carried = link.up_bytes - before
            moved = await task
    assert carried < unbroken.stats.sent_bytes  # it had not come whole
    assert moved.stats.replays == 1
    assert moved.stats.sent_bytes > unbroken.stats.sent_bytes
    assert torch.equal(moved.output.logits, unbroken.output.logits)


async def test_the_deadline_holds_over_all_attempts():
    with ServerProcess([MODEL], ALONE) as doomed:
        async with SplitClient(doomed.address, MODEL, timeout_s=2.0) as client:
            pieces = client.generate(PROMPT, **DRAWN)
            await anext(pieces)
            doomed.kill()
            started = time.monotonic()
            with pytest.raises(DeadlineError, match=r"within 2 s; the last failure: no server"):
                await text_of(pieces)
            assert time.monotonic() - started < 10


async def test_a_server_that_is_killed_before_its_link_is_probed_is_replaced_at_the_first_request(
    spare, monkeypatch
):
    async def killed(*arguments):
        doomed.kill()
        return await probe(*arguments)

    with ServerProcess([MODEL], ALONE) as doomed:
        monkeypatch.setattr("featurewire_client.client.probe", killed)
        addresses = f"{doomed.address},{spare.address}"
        async with SplitClient(addresses, MODEL, budget=Budget(latency_ms=60_000)) as client:
            assert len(await text_of(client.generate(PROMPT, max_tokens=3))) > 0
