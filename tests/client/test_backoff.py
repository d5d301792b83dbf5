"""Waits between attempts grow, are capped and are random; a full server is asked no sooner."""

from statistics import mean

import pytest
from featurewire_client import RefusedError, sessions
from featurewire_client.addresses import wait_s
from featurewire_client.sessions import Sessions

DRAWS = 400


@pytest.mark.parametrize(
    ("attempt", "longest"),
    [(1, 0.1), (2, 0.2), (5, 1.6), (6, 2.0), (7, 2.0), (1023, 2.0), (1024, 2.0), (10**9, 2.0)],
)
def test_a_wait_is_anywhere_up_to_a_bound_that_doubles_and_is_capped(attempt, longest):
    waits = [wait_s(attempt) for _ in range(DRAWS)]
    assert 0 <= min(waits) < 0.1 * longest
    assert 0.9 * longest < max(waits) <= longest
    assert mean(waits) == pytest.approx(longest / 2, rel=0.2)
    assert len(set(waits)) > DRAWS / 2


@pytest.mark.parametrize(
    ("asked_s", "least"), [(None, 0.0), (0.0, 0.0), (-3.0, 0.0), (1.0, 1.0), (3600.0, 5.0)]
)
def test_what_a_server_asks_for_comes_on_top_and_is_capped(asked_s, least):
    waits = [wait_s(3, asked_s) for _ in range(DRAWS)]
    assert least <= min(waits)
    assert max(waits) <= least + 0.4
    assert len(set(waits)) > DRAWS / 2


@pytest.mark.parametrize(("addresses", "asked_s"), [("a:1", 1.0), ("a:1,b:1", None)])
async def test_only_a_server_without_another_is_waited_for_as_it_asks(
    addresses, asked_s, monkeypatch
):
    full = RefusedError("full", code="RESOURCE_EXHAUSTED", reason="SERVER_FULL", retry_s=1.0)
    answers, waits = [full, full, None], []

    async def replace(*_: object) -> None:
        if (error := answers.pop(0)) is not None:
            raise error

    def note(*arguments: object) -> float:
        waits.append(arguments)
        return 0.0

    way = Sessions(addresses)
    monkeypatch.setattr(way, "_replace", replace)
    monkeypatch.setattr(sessions, "wait_s", note)
    await way.mend(None, None)
    assert waits == [(1, asked_s), (2, asked_s)]
