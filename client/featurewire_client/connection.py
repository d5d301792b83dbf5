"""A channel to a server that answers: an address in, a channel and its catalogue out."""

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.v1 import featurewire_pb2_grpc as rpc
from featurewire.wire import limits

from featurewire_client.errors import (
    AddressError,
    ConnectionFailedError,
    RefusedError,
    client_error,
)

_LEAST_PROBE_BYTES, _MOST_PROBE_BYTES = 1 << 10, 1 << 18
_PLAIN_S = 0.02  # what a probe must take beyond the round trip to be told from noise


@dataclass(frozen=True)
class Connection:
    """An open channel and what its server serves."""

    address: str
    channel: grpc.aio.Channel
    stub: rpc.SplitInferenceServiceStub
    catalogue: pb.ListModelsResponse

    def model(self, name: str) -> pb.Model:
        """What the server says of the model.

        Raises:
            RefusedError: the server does not serve it.
        """
        for model in self.catalogue.models:
            if model.name == name:
                return model
        served = ", ".join(model.name for model in self.catalogue.models)
        raise RefusedError(
            f"the server at {self.address} does not serve {name!r}; it serves {served}",
            code="NOT_FOUND",
            reason="MODEL_UNKNOWN",
            found=name,
            allowed=served,
        )

    def check_protocol(self) -> None:
        """Holds the server's protocol against our own, before anything of it is relied on.

        Raises:
            RefusedError: they have no version in common.
        """
        found, allowed = (
            f"{least} to {most}"
            for least, most in (
                (limits.PROTOCOL_MIN, limits.PROTOCOL_MAX),
                (self.catalogue.protocol_min, self.catalogue.protocol_max),
            )
        )
        if (
            self.catalogue.protocol_min > limits.PROTOCOL_MAX
            or self.catalogue.protocol_max < limits.PROTOCOL_MIN
        ):
            raise RefusedError(
                f"protocol: the client has {found!r}, the server at {self.address} {allowed!r}",
                code="FAILED_PRECONDITION",
                reason="PROTOCOL_MISMATCH",
                found=found,
                allowed=allowed,
            )


async def probe(connection: Connection, timeout_s: float) -> tuple[float, float]:
    """The link's rate, bytes a second, and its round trip, seconds, from requests of rising size.

    Raises:
        ConnectionFailedError: the server does not answer within `timeout_s` seconds each.
    """

    async def timed(size: int) -> float:
        started = time.perf_counter()
        await connection.stub.Probe(pb.ProbeRequest(padding=bytes(size)), timeout=timeout_s)
        return time.perf_counter() - started

    try:
        trip = min([await timed(0) for _ in range(3)])
        size = _LEAST_PROBE_BYTES
        while (spent := await timed(size) - trip) < _PLAIN_S and size < _MOST_PROBE_BYTES:
            size *= 4
    except grpc.aio.AioRpcError as error:
        raise ConnectionFailedError(str(client_error(error, connection.address))) from error
    return size / max(spent, 1e-4), trip


async def connect(address: str, timeout_s: float) -> Connection:
    """Connects to "host:port".

    Raises:
        ConnectionFailedError: no server answers there within `timeout_s` seconds.
    """
    channel = grpc.aio.insecure_channel(address, limits.CHANNEL_OPTIONS)
    stub = rpc.SplitInferenceServiceStub(channel)
    try:
        catalogue = await stub.ListModels(pb.ListModelsRequest(), timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        await channel.close()
        raise ConnectionFailedError(str(client_error(error, address))) from error
    except BaseException:
        await channel.close()
        raise
    return Connection(address, channel, stub, catalogue)


@contextlib.asynccontextmanager
async def connected(addresses: str, timeout_s: float) -> AsyncIterator[Connection]:
    """A connection to the first of several "host:port" with commas between that answers.

    Raises:
        AddressError: an address is not HOST:PORT.
        ConnectionFailedError: no server answers within `timeout_s` seconds each.
    """
    failures = []
    for address in parse_addresses(addresses):
        try:
            connection = await connect(address, timeout_s)
        except ConnectionFailedError as error:
            failures.append(str(error))
            continue
        try:
            yield connection
        finally:
            await connection.channel.close()
        return
    raise ConnectionFailedError("; ".join(failures))


def parse_addresses(addresses: str) -> list[str]:
    """The parts of "host:port,host:port".

    Raises:
        AddressError: a part is not HOST:PORT.
    """
    parts = [part.strip() for part in addresses.split(",")]
    for part in parts:
        host, _, port = part.rpartition(":")
        if not (host and port.isdecimal() and 1 <= int(port) <= 65535):
            raise AddressError(
                f"the server's address {part!r} is not HOST:PORT with a port from 1 to 65535"
            )
    return parts
