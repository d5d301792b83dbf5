"""A server is silent where neither a message nor what it is asked for comes."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import grpc
import pytest
from featurewire_client import pulse
from featurewire_client.pulse import Pulse


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(pulse, "_QUIET_S", 0.01)


def pulse_of(answer: Callable[[int], grpc.StatusCode | None]) -> tuple[Pulse, list[int]]:
    """A pulse whose server answers the n-th question with a status; None: as it should."""
    asked: list[int] = []

    async def probe(_request: object, **_settings: float) -> None:
        asked.append(len(asked))
        code = answer(asked[-1])
        if code is not None:
            raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata())

    found = Pulse(SimpleNamespace(stub=SimpleNamespace(Probe=probe)))
    return found, asked


@pytest.mark.parametrize("alive", [None, grpc.StatusCode.UNAVAILABLE])
async def test_any_answer_says_that_a_server_lives(alive):
    """A server that is about to stop refuses new calls, and goes on with those it has."""
    found, asked = pulse_of(lambda n: alive if n < 3 else grpc.StatusCode.DEADLINE_EXCEEDED)
    assert await asyncio.wait_for(found.silence(), 10) > 0
    assert len(asked) == 4


async def test_a_message_that_comes_while_the_answer_waits_behind_it_counts():
    def answer(n: int) -> grpc.StatusCode:
        if n < 3:
            found.heard()
        return grpc.StatusCode.DEADLINE_EXCEEDED

    found, asked = pulse_of(answer)
    assert await asyncio.wait_for(found.silence(), 10) > 0
    assert len(asked) == 4


async def test_nothing_is_asked_while_messages_come(monkeypatch):
    monkeypatch.setattr(pulse, "_QUIET_S", 30.0)
    found, asked = pulse_of(lambda _: grpc.StatusCode.DEADLINE_EXCEEDED)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(found.silence(), 0.05)
    assert not asked
