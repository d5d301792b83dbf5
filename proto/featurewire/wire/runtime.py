"""The process that a command runs in: glibc's allocator tuned, uvloop where it is installed."""

import asyncio
import ctypes
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 256 * 1024 * 1024


def tune_malloc() -> bool:
    """Keeps freed memory in the process; True where the C library took the settings.

    glibc returns freed blocks over 64 KiB to the kernel and faults them in again for the next
    message, which costs grpc.aio two thirds of its throughput. Process-wide, so commands call it
    and libraries do not.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl has none, and does not trim
        return False
    settings = {
        _M_TRIM_THRESHOLD: _KEPT_BYTES,
        _M_TOP_PAD: 16 * 1024 * 1024,
        _M_MMAP_THRESHOLD: _KEPT_BYTES,
    }
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's event loop where uvloop is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Runs `main` to its end on `new_event_loop()`, as `asyncio.run` would."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main)
