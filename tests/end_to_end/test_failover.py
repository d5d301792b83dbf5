"""A broken link, a killed or a draining server: the caller sees the same text, token for token."""

import asyncio
import contextlib
import logging
import signal
import socket
import time

import pytest
import torch
from featurewire_bench.process import ServerProcess, free_port
from featurewire_bench.relay import Relay
from featurewire_client import (
    Budget,
    ClientError,
    ConnectionFailedError,
    DeadlineError,
    RefusedError,
    SplitClient,
    profiles,
)
from featurewire_client.connection import probe
from featurewire_models import load_processor

MODEL = "tiny-llama3"
ALONE = ("--max-batch", "1")
PROMPT = "This function returns the value of the given name. " * 12
DRAWN = {"max_tokens": 40, "temperature": 1.2, "top_k": 50, "seed": 11}


async def text_of(pieces) -> str:
    return "".join([piece async for piece in pieces])


@pytest.fixture(scope="module")
def spare():
    """A server that no test harms."""
    with ServerProcess([MODEL], ALONE) as server:
        yield server


@pytest.fixture(scope="module")
def unbroken(spare) -> str:
    async def run() -> str:
        async with SplitClient(spare.address, MODEL) as client:
            text = await text_of(client.generate(PROMPT, **DRAWN))
            assert client.last_stats.replays == 0
            assert client.last_stats.tokens == 40
            return text

    return asyncio.run(run())


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


async def test_a_session_moves_past_a_server_of_another_model(spare, unbroken):
    with ServerProcess([MODEL], ALONE) as doomed, ServerProcess(["tiny-dinov2"]) as other:
        addresses = f"{doomed.address},{other.address},{spare.address}"
        async with SplitClient(addresses, MODEL) as client:
            pieces = client.generate(PROMPT, **DRAWN)
            text = await anext(pieces)
            doomed.kill()
            text += await text_of(pieces)
            assert client.last_stats.replays == 1
    assert text == unbroken


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


async def test_a_draining_server_hands_its_sessions_over_and_ends_at_once(spare, unbroken):
    with ServerProcess([MODEL], (*ALONE, "--grace-s", "20")) as leaving:
        async with SplitClient(f"{leaving.address},{spare.address}", MODEL) as client:
            pieces = client.generate(PROMPT, **DRAWN)
            text = await anext(pieces)
            leaving.kill(signal.SIGTERM)
            started = time.monotonic()
            await asyncio.sleep(0.3)
            text += await text_of(pieces)
            code = await asyncio.to_thread(leaving.wait)
            assert time.monotonic() - started < 15
            assert client.last_stats.replays == 1
    assert text == unbroken
    assert code == 0


@pytest.mark.parametrize("amid", [False, True])
async def test_a_draining_server_does_not_wait_for_sessions_without_a_request(
    spare, unbroken, amid
):
    with ServerProcess([MODEL], (*ALONE, "--grace-s", "60")) as leaving:
        async with SplitClient(leaving.address, MODEL) as other:
            pieces = other.generate(PROMPT, **DRAWN)
            text = await anext(pieces) if amid else ""
            async with SplitClient(f"{leaving.address},{spare.address}", MODEL) as client:
                leaving.kill(signal.SIGTERM)
                if amid:
                    await asyncio.sleep(0.3)
                    assert text + await text_of(pieces) == unbroken  # there is no other server
                assert await asyncio.to_thread(leaving.wait, 30) == 0
                assert await text_of(client.generate(PROMPT, **DRAWN)) == unbroken
                assert client.last_stats.replays == 0


async def test_a_server_that_is_about_to_stop_opens_no_session_and_another_one_does(serve):
    """It answers as before, but for sessions, while it tells those that it has."""
    async with serve(MODEL) as leaving, serve(MODEL) as other:
        await leaving._service.go_away()
        async with SplitClient(f"{leaving.address},{other.address}", MODEL) as client:
            assert len(await text_of(client.generate("Return the", max_tokens=3))) > 0
            assert (leaving.open_sessions, other.open_sessions) == (0, 1)
        code = {"code": "UNAVAILABLE"}
        counted = leaving._registry.get_sample_value("featurewire_server_errors_total", code)
        assert counted == 1
        with pytest.raises(DeadlineError, match="the server is about to stop"):
            await SplitClient(leaving.address, MODEL, timeout_s=3.0).__aenter__()


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_draining_server_is_not_left_for_one_that_does_not_answer(unbroken, hangs):
    with (
        socket.socket() as other,
        ServerProcess([MODEL], (*ALONE, "--grace-s", "30")) as leaving,
    ):
        other.bind(("127.0.0.1", 0))
        if hangs:  # it takes connections, else it refuses them
            other.listen()
        addresses = f"{leaving.address},127.0.0.1:{other.getsockname()[1]}"
        async with SplitClient(addresses, MODEL, timeout_s=3) as client:
            pieces = client.generate(PROMPT, **DRAWN)
            text = await anext(pieces)
            leaving.kill(signal.SIGTERM)
            await asyncio.sleep(0.3)
            text += await text_of(pieces)  # a token that waited for that address would be late
            assert client.last_stats.replays == 0
    assert text == unbroken


async def test_a_draining_server_is_left_for_the_first_address_that_takes_what_was_sent(
    serve, unbroken, caplog
):
    """The next one opens a session, but has no memory for the text."""
    caplog.set_level(logging.INFO)
    with ServerProcess([MODEL], (*ALONE, "--grace-s", "30")) as leaving:
        async with serve(MODEL, cache_mb=0) as small, serve(MODEL, max_batch=1) as good:
            addresses = f"{leaving.address},{small.address},{good.address}"
            async with SplitClient(addresses, MODEL) as client:
                pieces = client.generate(PROMPT, **DRAWN)
                text = await anext(pieces)
                leaving.kill(signal.SIGTERM)
                await asyncio.sleep(0.3)
                for _ in range(6):
                    text += await anext(pieces)
                    await asyncio.sleep(0.1)  # until the next address has opened a session
                assert f"moved to {good.address}" in caplog.text
                text += await text_of(pieces)
                assert client.last_stats.replays == 1  # by the one that was taken alone
            assert not small.open_sessions
    assert text == unbroken


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


async def test_a_session_moves_past_a_server_that_computes_in_another_dtype(
    spare, unbroken, caplog
):
    with (
        ServerProcess([MODEL], ALONE) as doomed,
        ServerProcess([MODEL], (*ALONE, "--dtype", "bfloat16")) as other,
    ):
        addresses = f"{doomed.address},{other.address},{spare.address}"
        async with SplitClient(addresses, MODEL) as client:
            pieces = client.generate(PROMPT, **DRAWN)
            text = await anext(pieces)
            doomed.kill()
            text += await text_of(pieces)
            assert f"moved to {spare.address}" in caplog.text
        async with SplitClient(other.address, MODEL) as client:  # where it begins, it stays
            assert await text_of(client.generate(PROMPT, **DRAWN))
    assert text == unbroken


async def test_a_full_server_is_passed_over_for_the_next_one(spare, unbroken):
    with (
        ServerProcess([MODEL], (*ALONE, "--max-sessions", "1")) as full,
        ServerProcess([MODEL], ALONE) as doomed,
    ):
        addresses = f"{doomed.address},{full.address},{spare.address}"
        async with SplitClient(full.address, MODEL), SplitClient(addresses, MODEL) as client:
            pieces = client.generate(PROMPT, **DRAWN)
            text = await anext(pieces)
            doomed.kill()
            text += await text_of(pieces)
    assert text == unbroken


@pytest.mark.parametrize("ends", ["killed", "drains"])
async def test_a_server_without_memory_for_the_cache_is_passed_over_too(spare, unbroken, ends):
    with (
        ServerProcess([MODEL], (*ALONE, "--cache-mb", "1")) as full,
        ServerProcess([MODEL], (*ALONE, "--grace-s", "20")) as doomed,
    ):
        addresses = f"{doomed.address},{full.address},{spare.address}"
        async with SplitClient(full.address, MODEL) as hog, SplitClient(addresses, MODEL) as client:
            kept = hog.generate(PROMPT, max_tokens=100)
            await anext(kept)
            pieces = client.generate(PROMPT, **DRAWN)
            text = await anext(pieces)
            if ends == "killed":
                doomed.kill()
            else:
                doomed.kill(signal.SIGTERM)
            text += await text_of(pieces)
            await kept.aclose()
    assert text == unbroken


@contextlib.asynccontextmanager
async def without_memory(serve, hog_tokens: int = 400):
    """A server whose cache memory one text has all but taken."""
    async with serve(MODEL, cache_mb=1) as full, SplitClient(full.address, MODEL) as hog:
        kept = hog.generate(PROMPT, max_tokens=hog_tokens)
        await anext(kept)
        yield full
        await kept.aclose()


def refused(server) -> float | None:
    """How many requests it has refused for want of room."""
    code = {"code": "RESOURCE_EXHAUSTED"}
    return server._registry.get_sample_value("featurewire_server_errors_total", code)


async def test_a_server_without_memory_for_a_texts_cache_is_passed_over_at_its_first_message(
    spare, unbroken, serve
):
    async with (
        without_memory(serve) as full,
        SplitClient(f"{full.address},{spare.address}", MODEL) as client,
    ):
        for _ in range(2):  # the second text begins where there was room
            assert await text_of(client.generate(PROMPT, **DRAWN)) == unbroken
        assert refused(full) == 1


async def test_where_no_address_has_memory_for_a_text_each_is_asked_and_the_refusal_raised(serve):
    dead = f"127.0.0.1:{free_port()}"
    async with without_memory(serve) as full, without_memory(serve) as other:
        addresses = f"{full.address},{dead},{other.address}"
        async with SplitClient(addresses, MODEL) as client:
            started = time.monotonic()
            with pytest.raises(RefusedError, match="no memory for the request's cache") as caught:
                await text_of(client.generate(PROMPT, **DRAWN))
            assert time.monotonic() - started < 15
        assert (caught.value.reason, caught.value.retry_s) == ("SERVER_FULL", 1.0)
        assert (refused(full), refused(other)) == (1, 1)


async def test_a_server_whose_memory_is_too_small_for_a_text_is_passed_over(serve):
    """At the text's first message too; only where all are too small it is refused."""
    long = {"max_tokens": 900}
    async with serve(MODEL, cache_mb=1) as small, serve(MODEL, cache_mb=1) as other:
        async with serve(MODEL) as large, SplitClient(large.address, MODEL, "layers.0") as alone:
            pieces = alone.generate(PROMPT, **long)
            expected = [await anext(pieces) for _ in range(3)]
            for addresses in ((small, large), (small, other, large)):
                every = ",".join(server.address for server in addresses)
                async with SplitClient(every, MODEL, "layers.0") as client:
                    text = client.generate(PROMPT, **long)
                    assert [await anext(text) for _ in range(3)] == expected
            await pieces.aclose()
        async with SplitClient(f"{small.address},{other.address}", MODEL, "layers.0") as client:
            with pytest.raises(RefusedError, match="no memory for the request's cache") as caught:
                await text_of(client.generate(PROMPT, **long))
        assert caught.value.reason == "CACHE_TOO_SMALL"


async def test_a_session_goes_on_beyond_a_server_whose_memory_is_too_small_for_it(
    spare, unbroken, serve
):
    async with serve(MODEL, cache_mb=0) as small:
        with ServerProcess([MODEL], ALONE) as doomed:
            addresses = f"{doomed.address},{small.address},{spare.address}"
            async with SplitClient(addresses, MODEL) as client:
                pieces = client.generate(PROMPT, **DRAWN)
                text = await anext(pieces)
                doomed.kill()
                text += await text_of(pieces)
    assert text == unbroken


async def test_the_deadline_holds_where_a_full_server_is_passed_over_for_a_silent_one(serve):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with without_memory(serve) as full:
            addresses = f"{full.address},127.0.0.1:{silent.getsockname()[1]}"
            async with SplitClient(addresses, MODEL, timeout_s=3.0) as client:
                started = time.monotonic()
                with pytest.raises(
                    DeadlineError, match=r"the last failures?: .*no memory for the request's cache"
                ):
                    await text_of(client.generate(PROMPT, **DRAWN))
                assert time.monotonic() - started < 10


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


async def test_what_a_server_refuses_is_not_tried_again(spare):
    """The one that takes over serves another split point: that is said, at once."""
    with (
        ServerProcess([MODEL], ("--split", "layers.2")) as other,
        ServerProcess([MODEL], ALONE) as doomed,
    ):
        async with SplitClient(f"{doomed.address},{other.address}", MODEL) as client:
            pieces = client.generate(PROMPT, **DRAWN)
            await anext(pieces)
            doomed.kill()
            started = time.monotonic()
            with pytest.raises(RefusedError, match="split point of tiny-llama3"):
                await text_of(pieces)
            assert time.monotonic() - started < 20


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


async def test_a_deadline_over_servers_that_are_dead_or_full_tries_each_and_says_what_failed(
    spare, unbroken, caplog
):
    caplog.set_level(logging.INFO, logger="featurewire.client")
    dead = f"127.0.0.1:{free_port()}"
    with (
        ServerProcess([MODEL], (*ALONE, "--max-sessions", "1")) as full,
        ServerProcess([MODEL], ALONE) as doomed,
    ):
        addresses = f"{doomed.address},{dead},{full.address}"
        async with SplitClient(addresses, MODEL, timeout_s=6.0) as client:
            async with SplitClient(full.address, MODEL):
                pieces = client.generate(PROMPT, **DRAWN)
                await anext(pieces)
                doomed.kill()
                with pytest.raises(
                    DeadlineError,
                    match=rf"no answer from {doomed.address}, {dead}, {full.address} within 6 s;"
                    rf" the last failures: no server answers at {doomed.address}.*;"
                    rf" no server answers at {dead}.*; .*no place for another session: 1 open",
                ):
                    await text_of(pieces)
            tried = [line for line in caplog.messages if line.startswith("no session yet")]
            for failure in (dead, doomed.address, "no place for another session: 1 open"):
                assert any(failure in line for line in tried)
            # the one that was full has room again: nothing is left of what was given up
            assert await text_of(client.generate(PROMPT, **DRAWN)) == unbroken


async def test_a_session_opens_at_the_next_address_where_the_first_server_is_killed_before_it(
    spare, unbroken, monkeypatch
):
    fetch = profiles.fetch

    async def killed(*arguments):  # between the list of models and the handshake
        doomed.kill()
        return await fetch(*arguments)

    with ServerProcess([MODEL], ALONE) as doomed:
        monkeypatch.setattr(profiles, "fetch", killed)
        async with SplitClient(f"{doomed.address},{spare.address}", MODEL) as client:
            assert await text_of(client.generate(PROMPT, **DRAWN)) == unbroken


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


async def test_a_session_opens_at_the_first_address_that_has_room(spare, unbroken):
    with ServerProcess([MODEL], (*ALONE, "--max-sessions", "1")) as full:
        addresses = f"127.0.0.1:{free_port()},{full.address},{spare.address}"
        async with SplitClient(full.address, MODEL), SplitClient(addresses, MODEL) as client:
            assert await text_of(client.generate(PROMPT, **DRAWN)) == unbroken


async def test_where_no_address_has_room_what_a_full_server_said_is_raised():
    with ServerProcess([MODEL], (*ALONE, "--max-sessions", "1")) as full:
        addresses = f"{full.address},127.0.0.1:{free_port()}"
        async with SplitClient(full.address, MODEL):
            with pytest.raises(RefusedError, match="no place for another session") as caught:
                await SplitClient(addresses, MODEL).__aenter__()
    assert caught.value.retry_s > 0


async def test_a_mismatch_at_the_first_address_is_raised_though_another_would_serve(spare):
    with ServerProcess([MODEL], ("--split", "layers.2")) as other:
        addresses = f"{other.address},{spare.address}"
        with pytest.raises(RefusedError, match="split point of tiny-llama3"):
            await SplitClient(addresses, MODEL, split="layers.4").__aenter__()


async def test_no_server_at_any_address_is_said_with_each_of_them():
    ports = [free_port() for _ in range(2)]
    addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
    with pytest.raises(ConnectionFailedError) as caught:
        await SplitClient(addresses, MODEL).__aenter__()
    assert all(f"no server answers at 127.0.0.1:{port}" in str(caught.value) for port in ports)
