"""The relay between real loopback sockets: what it delays, keeps, bounds and passes on."""

import asyncio
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from featurewire_bench.errors import LinkError
from featurewire_bench.relay import Relay

Handler = Callable[[socket.socket], None]


@contextmanager
def target(handler: Handler) -> Iterator[str]:
    """A server on loopback that gives each connection to `handler` in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=serve, args=(connection,), daemon=True)
            threads.append(thread)
            thread.start()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(ConnectionResetError):
            handler(connection)

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(5)
        for thread in threads:
            thread.join(5)


def connect(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=20)


@contextmanager
def relay_client(address: str, **link: float) -> Iterator[tuple[Relay, socket.socket]]:
    with Relay(address, **link) as relay, connect(relay.address) as client:  # type: ignore[arg-type]
        yield relay, client


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def echo(connection: socket.socket) -> None:
    while part := connection.recv(65536):
        connection.sendall(part)


def digest(connection: socket.socket) -> None:
    """Reads to the end, and only then answers: needs the half-close to arrive."""
    connection.sendall(hashlib.sha256(read_all(connection)).digest())


def test_a_small_message_takes_the_round_trip() -> None:
    with target(echo) as address, relay_client(address, rate_mbit=100, rtt_ms=60) as (_, client):
        client.sendall(b"x")
        client.recv(1)
        times = []
        for _ in range(5):
            started = time.perf_counter()
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            times.append(time.perf_counter() - started)
    assert 0.059 < sorted(times)[2] < 0.5


def test_a_connection_costs_one_round_trip_before_its_first_byte() -> None:
    with target(echo) as address, Relay(address, rate_mbit=100, rtt_ms=100) as relay:
        started = time.perf_counter()
        with connect(relay.address) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert time.perf_counter() - started > 0.199


def test_the_rate_is_held_in_both_directions_and_bytes_are_counted() -> None:
    size = 500_000
    with target(digest) as address, Relay(address, rate_mbit=10, rtt_ms=10) as relay:
        with connect(relay.address) as client:
            started = time.perf_counter()
            client.sendall(bytes(size))
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == hashlib.sha256(bytes(size)).digest()
            took = time.perf_counter() - started
        assert relay.up_bytes == size
        assert relay.down_bytes == 32
    assert 0.400 < took < 3


def test_connections_share_the_rate() -> None:
    size = 200_000
    with target(digest) as address, Relay(address, rate_mbit=8, rtt_ms=0) as relay:
        clients = [connect(relay.address) for _ in range(3)]
        started = time.perf_counter()
        senders = [threading.Thread(target=c.sendall, args=(bytes(size),)) for c in clients]
        for sender in senders:
            sender.start()
        for sender, client in zip(senders, clients, strict=True):
            sender.join()
            client.shutdown(socket.SHUT_WR)
        for client in clients:
            assert len(read_all(client)) == 32
            client.close()
        took = time.perf_counter() - started
    assert 3 * size / 1e6 < took < 4


def test_bytes_stay_in_order_under_jitter() -> None:
    sent = random.Random(7).randbytes(300_000)
    link = {"rate_mbit": 50.0, "rtt_ms": 10.0, "jitter_ms": 20.0}
    with target(echo) as address, relay_client(address, **link) as (_, client):

        def send() -> None:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert read_all(client) == sent
        sender.join()


def test_a_slow_link_slows_its_sender_down() -> None:
    with (
        target(digest) as address,
        relay_client(address, rate_mbit=8, rtt_ms=20) as (relay, client),
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):  # 8 MB would need 8 s of this link
            client.sendall(bytes(8_000_000))
        assert relay.up_bytes < 2_000_000


def test_a_reader_that_stops_bounds_what_the_relay_holds() -> None:
    release = threading.Event()

    def stall(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        release.wait(20)

    with target(stall) as address, Relay(address, rate_mbit=1000, rtt_ms=2) as relay:
        with connect(relay.address) as client:
            client.settimeout(0.5)
            with pytest.raises(TimeoutError):
                client.sendall(bytes(64_000_000))
            assert relay.up_bytes < 16_000_000
        release.set()


def test_a_reset_is_passed_on() -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with target(reset) as address, relay_client(address, rate_mbit=100, rtt_ms=2) as (_, client):
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_disconnect_cuts_every_connection_and_new_ones_are_served() -> None:
    with target(echo) as address, Relay(address, rate_mbit=100, rtt_ms=2) as relay:
        clients = [connect(relay.address) for _ in range(2)]
        for client in clients:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert relay.connections == 2
        relay.disconnect()
        assert relay.connections == 0
        for client in clients:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
            client.close()
        with connect(relay.address) as client:
            client.sendall(b"y")
            assert client.recv(1) == b"y"


def test_a_target_that_does_not_listen_resets_the_client() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with relay_client(address, rtt_ms=1) as (_, client), pytest.raises(ConnectionResetError):
            client.recv(1)


def test_the_rate_changes_while_running() -> None:
    with target(digest) as address, Relay(address, rate_mbit=1, rtt_ms=0) as relay:
        relay.set_rate(80)
        started = time.perf_counter()
        with connect(relay.address) as client:
            client.sendall(bytes(400_000))  # 3.2 s at 1 Mbit/s
            client.shutdown(socket.SHUT_WR)
            assert len(read_all(client)) == 32
        assert time.perf_counter() - started < 2
        with pytest.raises(LinkError, match="more than 0"):
            relay.set_rate(0)


async def test_it_serves_an_event_loop_too() -> None:
    with target(echo) as address:
        async with Relay(address, rate_mbit=100, rtt_ms=2) as relay:
            host, port = relay.address.split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            await writer.wait_closed()


@pytest.mark.parametrize("address", ["nowhere", "host:", ":80", "host:99999", "host:x"])
def test_an_address_without_a_port_is_refused(address: str) -> None:
    with pytest.raises(LinkError, match="HOST:PORT"):
        Relay(address)


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LinkError, match="cannot listen"):
            Relay("127.0.0.1:1", listen=f"127.0.0.1:{port}").__enter__()
