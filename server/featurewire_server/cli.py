"""`featurewire-server`: options in, a serving process until SIGTERM or Ctrl-C; a second ends it."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from featurewire.wire.options import Version
from featurewire.wire.runtime import run, run_command

from featurewire_server.config import ServerConfig

log = logging.getLogger("featurewire.server")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_MOST_S = (2**32 - 1) // 1000  # what a GoAway holds, in milliseconds
_MOST_BATCH_WAIT_MS = 60_000


def _among(least: float, most: int) -> Callable[[float], float]:
    """A check that, unlike typer's own, lets neither nan nor infinity through."""

    def check(value: float) -> float:
        if not least <= value <= most:
            raise typer.BadParameter(f"{value:g} is not among {least:g} to {most}")
        return value

    return check


_EXAMPLES = """
Serves the tails of split models over gRPC.

Example: featurewire-server --model tiny-llama3 --model tiny-dinov2 --listen 0.0.0.0:50051
"""


@contextlib.contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Ctrl-C ends the process at once and quietly: what is being loaded needs no end of its own.

    asyncio would wait until it is loaded, and then cancel what has just begun to listen.
    """
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


async def _serve(config: ServerConfig) -> None:
    with _ended_by_ctrl_c():
        from featurewire_server.server import Server

        server = Server(config)
        await server.start()
    for model in server.models:
        splits = f"{model.splits[0]} to {model.splits[-1]}"
        print(f"{model.name}: {', '.join(model.tasks)}; split points {splits}", flush=True)
    print(f"featurewire-server listens on {server.address}", flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    names = (signal.SIGTERM, signal.SIGINT)

    def begin_to_stop() -> None:
        for name in names:  # a second one ends the process, whatever it is doing
            loop.remove_signal_handler(name)
            signal.signal(name, signal.SIG_DFL)
        stop.set()

    for name in names:
        with contextlib.suppress(NotImplementedError):  # Windows
            loop.add_signal_handler(name, begin_to_stop)
    await stop.wait()
    if server.open_sessions:
        log.info(
            "stopping: open sessions: %d; their requests may go on for %g s; a second SIGTERM or"
            " Ctrl-C stops at once",
            server.open_sessions,
            config.grace_s,
        )
    await server.stop()


@app.command(help=_EXAMPLES)
def serve(
    model: Annotated[
        list[str],
        typer.Option(
            help="Bundled name, local folder or hub id, any with @REVISION; once for each model."
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(
            help="Serve this split point only, holding just its tail.", show_default="all"
        ),
    ] = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT; port 0 takes a free one.")] = (
        ServerConfig.listen
    ),
    metrics_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Prometheus metrics over HTTP; 0: none.")
    ] = ServerConfig.metrics_port,
    profile: Annotated[
        list[str] | None,
        typer.Option(help="Folder that `featurewire calibrate` made; once for each split point."),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16 or float16: what the tails compute in.")
    ] = ServerConfig.dtype,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto: a GPU if any.")] = (
        ServerConfig.device
    ),
    max_sessions: Annotated[
        int, typer.Option(min=1, help="Sessions open at once; one more needs an unused place.")
    ] = ServerConfig.max_sessions,
    threads: Annotated[
        int, typer.Option(min=0, help="CPU threads of one tail; 0: torch's choice, one with a GPU.")
    ] = ServerConfig.threads,
    workers: Annotated[int, typer.Option(min=1, help="Tails that run at once.")] = (
        ServerConfig.workers
    ),
    max_batch: Annotated[
        int, typer.Option(min=1, help="Samples, or steps of texts, of one shared pass; 1: none.")
    ] = ServerConfig.max_batch,
    batch_wait_ms: Annotated[
        float,
        typer.Option(
            callback=_among(0, _MOST_BATCH_WAIT_MS),
            help="How long a request waits for others of its shape.",
        ),
    ] = ServerConfig.batch_wait_ms,
    cache_mb: Annotated[
        int,
        typer.Option(
            min=1, help="MiB that features, caches and outputs of all requests may take together."
        ),
    ] = ServerConfig.cache_mb,
    idle_s: Annotated[
        float,
        typer.Option(
            callback=_among(0.1, _MOST_S), help="Seconds without a message that end a session."
        ),
    ] = ServerConfig.idle_s,
    grace_s: Annotated[
        float,
        typer.Option(
            callback=_among(0, _MOST_S), help="Seconds that requests may go on for after SIGTERM."
        ),
    ] = ServerConfig.grace_s,
    version: Version = False,
) -> None:
    config = ServerConfig(
        models=tuple(model),
        split=split,
        listen=listen,
        metrics_port=metrics_port,
        profiles=tuple(profile or ()),
        dtype=dtype,
        device=device,
        max_sessions=max_sessions,
        threads=threads,
        workers=workers,
        max_batch=max_batch,
        batch_wait_ms=batch_wait_ms,
        cache_mb=cache_mb,
        idle_s=idle_s,
        grace_s=grace_s,
    )
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("featurewire").setLevel(logging.INFO)  # not every request to the hub too
    run(_serve(config))


def main() -> None:
    """Exits 2 with one sentence on bad input, 130 on Ctrl-C before it listens."""
    errors = (
        "featurewire_server.errors:ServerError",
        "featurewire_codec.errors:CodecError",
        "featurewire_models.errors:ModelError",
    )
    run_command("featurewire-server", app, errors)
