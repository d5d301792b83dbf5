"""Several addresses: where a session opens or moves to, and what is said where none will do."""

import contextlib
import logging
import signal
import socket
import time

import pytest
from drawn_text import ALONE, DRAWN, MODEL, PROMPT, text_across, text_of
from featurewire_bench.process import ServerProcess, free_port
from featurewire_client import (
    ConnectionFailedError,
    DeadlineError,
    RefusedError,
    SplitClient,
    profiles,
)


async def test_a_session_moves_past_a_server_of_another_model(spare, unbroken):
    with ServerProcess([MODEL], ALONE) as doomed, ServerProcess(["tiny-dinov2"]) as other:
        addresses = f"{doomed.address},{other.address},{spare.address}"
        async with SplitClient(addresses, MODEL) as client:
            text = await text_across(client, doomed.kill)
            assert client.last_stats.replays == 1
    assert text == unbroken


async def test_a_session_moves_past_a_server_that_computes_in_another_dtype(
    spare, unbroken, caplog
):
    with (
        ServerProcess([MODEL], ALONE) as doomed,
        ServerProcess([MODEL], (*ALONE, "--dtype", "bfloat16")) as other,
    ):
        addresses = f"{doomed.address},{other.address},{spare.address}"
        async with SplitClient(addresses, MODEL) as client:
            text = await text_across(client, doomed.kill)
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
            text = await text_across(client, doomed.kill)
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
                text = await text_across(client, doomed.kill)
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
