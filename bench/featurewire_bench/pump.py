"""One direction of one relayed connection: bytes from a socket in, the same bytes later to another.

What is read waits for the wire, travels, and is delivered in order; the end of the bytes (a
half-close) travels like a byte. A reset of either socket ends the pump with that OSError.
"""

import asyncio
import socket
from collections import deque

from featurewire_bench.link import Wire

IN_FLIGHT_BYTES = 256 * 1024  # a connection's undelivered bytes, beyond those under way, at most
UNDER_WAY_BYTES = 16 * 1024 * 1024  # bytes under way (rate x delay) that are kept at most


class Pump:
    """Reads `source` no faster than the wire takes it, and writes to `sink` what has arrived."""

    def __init__(self, source: socket.socket, sink: socket.socket, wire: Wire) -> None:
        self._source, self._sink, self._wire = source, sink, wire
        self._in_flight: deque[tuple[float, bytes]] = deque()  # (delivery time, chunk); b"" ends
        self._in_flight_bytes = 0
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Returns once the half-close has been delivered.

        Raises:
            ExceptionGroup: with the OSError of the socket that failed.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._deliver())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        delivered_at, chunk = 0.0, b"more"
        while chunk:
            if (hold := self._wire.hold_s(loop.time())) > 0:
                await asyncio.sleep(hold)
            while self._in_flight_bytes > self._limit():
                self._changed.clear()
                await self._changed.wait()
            chunk = await loop.sock_recv(self._source, self._wire.chunk_bytes)
            # max: jitter never lets a chunk overtake the one before it
            delivered_at = max(delivered_at, self._wire.send(len(chunk), loop.time()))
            self._in_flight.append((delivered_at, chunk))
            self._in_flight_bytes += len(chunk)
            self._changed.set()

    def _limit(self) -> float:
        config = self._wire.config
        on_the_wire = config.bytes_per_s * (config.rtt_ms / 2 + config.jitter_ms) / 1e3
        return min(on_the_wire, UNDER_WAY_BYTES) + IN_FLIGHT_BYTES

    async def _deliver(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._in_flight:
                self._changed.clear()
                await self._changed.wait()
            delivered_at, chunk = self._in_flight[0]
            if (early := delivered_at - loop.time()) > 0:
                await asyncio.sleep(early)
            if not chunk:
                self._sink.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(self._sink, chunk)
            self._in_flight.popleft()
            self._in_flight_bytes -= len(chunk)
            self._changed.set()
