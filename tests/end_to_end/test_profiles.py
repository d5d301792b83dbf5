"""A server's profiles come page by page: over slow links too, and not from a server that hangs."""

import asyncio
import shutil

import pytest
from featurewire_bench.relay import Relay
from featurewire_client import DeadlineError, SplitClient, profiles
from featurewire_models import describe
from featurewire_server.service import SplitInferenceService

SPLIT = "layers.4"


@pytest.fixture
def model(tmp_path, monkeypatch):
    """The bundled model in a folder without profiles, and nothing in the cache."""
    monkeypatch.setattr(profiles, "CACHE", tmp_path / "cache")
    ignored = shutil.ignore_patterns("profiles")
    return shutil.copytree(describe("tiny-llama3").path, tmp_path / "a-llama", ignore=ignored)


@pytest.fixture
def learned() -> tuple[str]:
    return (str(describe("tiny-llama3").profile_folder(SPLIT, "generation")),)


@pytest.fixture
def pages(monkeypatch) -> list[int]:
    """The sizes of all pages."""
    sizes = []
    get = SplitInferenceService.GetProfile

    async def noted(self, request, context):
        page = await get(self, request, context)
        sizes.append(len(page.payload))
        return page

    monkeypatch.setattr(SplitInferenceService, "GetProfile", noted)
    return sizes


async def test_a_profile_may_take_longer_than_a_request(serve, model, learned, pages):
    async with serve(model, profiles=learned) as server:
        with Relay(server.address, rate_mbit=1) as link:
            async with SplitClient(link.address, str(model), SPLIT, timeout_s=2) as client:
                assert client.profiled
    assert sum(pages) > 2 * 2 * 1e6 / 8  # twice what comes in the time allowed


async def test_a_fast_links_pages_grow(serve, model, learned, pages):
    async with serve(model, profiles=learned) as server, SplitClient(server.address, str(model)):
        pass
    assert max(pages) > 2 * profiles._LEAST_PAGE


async def test_a_slow_links_pages_stay_small(serve, model, learned, pages):
    async with serve(model, profiles=learned) as server:
        with Relay(server.address, rate_mbit=1) as link:
            async with SplitClient(link.address, str(model), SPLIT):
                assert max(pages) < 0.2 * sum(pages)


async def test_where_pages_do_not_come_the_deadline_holds_and_another_server_is_asked(
    serve, model, learned, monkeypatch
):
    get, hanging = SplitInferenceService.GetProfile, set()

    async def hang(self, request, context):
        if self in hanging:
            await asyncio.sleep(60)
        return await get(self, request, context)

    monkeypatch.setattr(SplitInferenceService, "GetProfile", hang)
    async with (
        serve(model, profiles=learned) as hangs,
        serve(model, profiles=learned) as good,
    ):
        hanging.add(hangs._service)
        with pytest.raises(DeadlineError):
            async with SplitClient(hangs.address, str(model), timeout_s=1):
                pass
        addresses = f"{hangs.address},{good.address}"
        async with SplitClient(addresses, str(model), timeout_s=6) as client:
            assert client.profiled
