"""The process is prepared: the allocator takes its settings, the loop is uvloop's."""

import asyncio
import sys

import pytest
import uvloop
from featurewire.wire.runtime import run, tune_malloc


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_the_allocator_takes_the_settings():
    assert tune_malloc()


def test_commands_run_on_uvloop_where_it_is_installed():
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert isinstance(run(loop()), uvloop.Loop)


def test_commands_run_on_asyncio_without_uvloop(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)

    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert not isinstance(run(loop()), uvloop.Loop)
