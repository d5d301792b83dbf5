"""A userspace TCP relay that behaves like a slow link: connections in, delayed connections out.

    with Relay(target="127.0.0.1:50051", rate_mbit=20, rtt_ms=40) as relay:
        client = SplitClient(relay.address, ...)

The relay's event loop runs in a thread of its own, so it serves blocking and asyncio callers alike,
and every method may be called from any thread. Not emulated: packet loss and TCP's slow start.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import replace
from typing import Self

from featurewire_bench.errors import LinkError
from featurewire_bench.link import LinkConfig, Wire
from featurewire_bench.pump import Pump

SOCKET_BUFFER_BYTES = 128 * 1024  # the kernel's share of the queue; the default hides megabytes
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST


def parse_address(address: str) -> tuple[str, int]:
    """`host:port` or `[ipv6]:port` as (host, port); LinkError for anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise LinkError(f"address is {address!r}; it must be HOST:PORT with a port of 0 to 65535")
    return host.strip("[]"), int(port)


class Relay:
    """Relays `listen` to `target` over an emulated link; a sync and an async context manager."""

    def __init__(
        self,
        target: str,
        rate_mbit: float = 20.0,
        rtt_ms: float = 40.0,
        jitter_ms: float = 0.0,
        listen: str = "127.0.0.1:0",
    ) -> None:
        config = LinkConfig(rate_mbit, rtt_ms, jitter_ms)
        self._target = parse_address(target)
        self._listen = parse_address(listen)
        self._up, self._down = Wire(config, seed=1), Wire(config, seed=2)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Where the relay listens, `host:port`."""
        if self._listener is None:
            raise LinkError("the relay is not started; use it in a with block")
        host, port = self._listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def up_bytes(self) -> int:
        """Bytes carried towards the target so far."""
        return self._up.carried_bytes

    @property
    def down_bytes(self) -> int:
        """Bytes carried back from the target so far."""
        return self._down.carried_bytes

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._tasks)

    def set_rate(self, rate_mbit: float) -> None:
        """Changes the rate of both directions; bytes already queued keep the old one."""
        config = replace(self._up.config, rate_mbit=rate_mbit)
        self._up.config = self._down.config = config

    def wait(self) -> None:
        """Blocks until the relay ends."""
        if self._thread is not None:
            self._thread.join()

    def disconnect(self) -> None:
        """Cuts every open connection with a reset, both ends; new ones are still accepted."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self._listen[0] else socket.AF_INET
        listener = socket.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # accepted sockets inherit it; set before listen() so that the window scale fits
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            listener.bind(self._listen)
            listener.listen(128)
        except OSError as error:
            listener.close()
            raise LinkError(
                f"cannot listen on {':'.join(map(str, self._listen))}: {error}"
            ) from error
        listener.setblocking(False)
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, args=(self._loop, listener), name="relay", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop = self._listener = None

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.__exit__)

    def _run(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        asyncio.set_event_loop(loop)
        accepting = loop.create_task(self._accept(listener))
        loop.run_forever()
        accepting.cancel()
        loop.run_until_complete(asyncio.gather(accepting, return_exceptions=True))
        loop.run_until_complete(self._cut())
        loop.close()
        listener.close()

    async def _cut(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(listener)
            task = loop.create_task(self._serve(near))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, near: socket.socket) -> None:
        """One connection, until both directions have ended or either is reset."""
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        far = socket.socket(family)
        try:
            for end in (near, far):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
            # the TCP handshake: no byte before SYN and SYN-ACK have crossed the link
            await asyncio.sleep(self._up.delay_s() + self._down.delay_s())
            await asyncio.get_running_loop().sock_connect(far, self._target)
            async with asyncio.TaskGroup() as group:
                group.create_task(Pump(near, far, self._up).run())
                group.create_task(Pump(far, near, self._down).run())
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            for end in (near, far):
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        finally:
            near.close()
            far.close()
