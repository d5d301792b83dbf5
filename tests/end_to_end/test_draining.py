"""A server that is about to stop: it loses nothing, waits for nobody, and its sessions move."""

import asyncio
import contextlib
import logging
import signal
import socket
import time

import pytest
from drawn_text import ALONE, DRAWN, MODEL, PROMPT, text_of
from featurewire_bench.process import ServerProcess
from featurewire_client import DeadlineError, SplitClient


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


async def test_a_server_that_drains_has_written_every_account_before_it_stops_and_no_traceback(
    spare,
):
    with ServerProcess([MODEL], (*ALONE, "--grace-s", "5")) as leaving:
        async with contextlib.AsyncExitStack() as stack:
            addresses = f"{leaving.address},{spare.address}"
            clients = [
                await stack.enter_async_context(SplitClient(addresses, MODEL)) for _ in range(3)
            ]

            async def slowly(client: SplitClient) -> None:
                async for _ in client.generate(PROMPT, max_tokens=12):
                    await asyncio.sleep(0.1)

            texts = [asyncio.create_task(slowly(client)) for client in clients]
            await asyncio.sleep(0.8)
            leaving.kill(signal.SIGTERM)
            assert await asyncio.to_thread(leaving.wait) == 0
            await asyncio.gather(*texts)
        log = leaving.log().splitlines()
    assert not any("Traceback" in line or "ERROR" in line for line in log)
    assert sum("request peer=" in line for line in log) == 3
    assert "stopped after" in log[-1]


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
