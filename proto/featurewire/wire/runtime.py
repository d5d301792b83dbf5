"""The process that a command runs in: its errors, glibc's allocator, and uvloop if installed."""

import asyncio
import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
# One of prctl(2), and what it takes.
_PR_SET_NAME = 15
_NAME_BYTES = 15
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


def use_threads(count: int) -> None:
    """Sets on how many threads torch's operators run when this very thread calls them.

    OpenMP keeps the number for each thread; one that never asked takes over the last number that
    any thread has set, the first time that it runs an operator: so each sets its own.
    """
    import torch

    _name_thread()
    torch.set_num_threads(count)
    torch.get_num_threads()  # now, and not when another thread has set another one


def _name_thread() -> None:
    """Tells the kernel what Python calls this thread: `top -H` shows what each stage takes."""
    if sys.platform.startswith("linux") and sys.version_info < (3, 14):  # which does so itself
        name = threading.current_thread().name.encode()[:_NAME_BYTES]
        getattr(ctypes.CDLL(None), "prctl", lambda *_: None)(_PR_SET_NAME, name, 0, 0, 0)


def coding_threads() -> int:
    """How many threads code features, beside those that a model computes on."""
    return max(1, cores() // 4)


def cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def run_command(name: str, app: Callable[..., object], errors: Sequence[str]) -> None:
    """Runs a typer application: one plain sentence and status 2 on bad input, 130 on Ctrl-C.

    Args:
        name: the command's, before the sentence.
        errors: the error trees whose messages are for people, as "module:class". By name,
            because a module that was never imported has raised nothing, and some take seconds.
    """
    # gRPC's C core writes lines of its own beside our sentence otherwise; a person can ask for them
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    tune_malloc()
    try:
        status = app(standalone_mode=False)
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
    except Exception as error:
        if type(error).__name__ == "Abort":  # typer's own for Ctrl-C
            sys.exit(130)
        if hasattr(error, "format_message"):  # typer's usage errors have no public class
            sentence = error.format_message()
        elif _is_one_of(error, errors):
            sentence = str(error)
        else:
            raise
        if sentence:  # without arguments, the help alone
            print(f"{name}: {sentence}", file=sys.stderr)
        sys.exit(2)
    finally:
        gc.freeze()  # Python's last look for cycles would take a second, with all that torch keeps
    sys.exit(status if isinstance(status, int) else 0)


def _is_one_of(error: Exception, names: Sequence[str]) -> bool:
    for name in names:
        module, _, tree = name.partition(":")
        if module in sys.modules and isinstance(error, getattr(sys.modules[module], tree)):
            return True
    return False
