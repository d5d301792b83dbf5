"""Sessions with one of several servers, one at a time: why the last one broke in, the next one out.

A new session is brought to where the old one was: what the request had sent is sent again, with the
tokens that were delivered.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from featurewire.v1 import featurewire_pb2 as pb

from featurewire_client.addresses import Addresses, wait_s
from featurewire_client.connection import Connection
from featurewire_client.errors import (
    NO_ROOM,
    ClientError,
    ConnectionFailedError,
    ConnectionLostError,
    RefusedError,
)
from featurewire_client.link_estimate import LinkEstimate
from featurewire_client.session import Session
from featurewire_client.transcript import Transcript

log = logging.getLogger("featurewire.client")

_CONNECT_S = 5.0


class Sessions:
    """The session that there is, and what it takes to have the next one.

    Args:
        addresses: "host:port", or several with commas between.

    Attributes:
        addresses: which of them is asked next.
        link: what is known of the link, over all sessions.
        current: None where there is none now.
        described: the tensors of the last Begin that the current one was sent.
    """

    def __init__(self, addresses: str) -> None:
        self.addresses = Addresses(addresses)
        self.link = LinkEstimate()
        self.current: Session | None = None
        self.described: list[pb.CodedTensor] = []
        self._offer: pb.Handshake | None = None
        self._connection: Connection | None = None
        self._mending = asyncio.Lock()

    @property
    def address(self) -> str:
        """Where the session is, or was."""
        return self._connection.address if self._connection else self.addresses.next

    async def open(
        self, connect_s: float, agree: Callable[[Connection], Awaitable[pb.Handshake]]
    ) -> Connection:
        """Opens the first session, at the first address whose server takes it.

        A connection that is lost amid that is tried again; the caller's deadline bounds it.

        Args:
            connect_s: how long a server has to answer at all.
            agree: what to offer a server; the sessions after the first one offer the same.

        Raises:
            ConnectionFailedError: no server answers at any address.
            RefusedError: no server that answers has room, or one refuses what the session is.
        """
        failures: dict[str, ConnectionFailedError | RefusedError] = {}
        attempt = 0
        while len(failures) < len(set(self.addresses.every)):
            if attempt > 1:
                await asyncio.sleep(wait_s(attempt - 1))
            attempt += 1
            try:
                self._connection = await self.addresses.dial(connect_s)
                self._offer = await agree(self._connection)
                self.current = await Session.open(self._connection, self._offer, self.link)
            except (ConnectionFailedError, ConnectionLostError, RefusedError) as error:
                if not isinstance(error, ConnectionLostError):
                    failures[self.addresses.next] = error
                self.addresses.pass_over(error)
                await self._hang_up()
            else:
                self.addresses.found()
                self.described = []
                return self._connection
        full = [error for error in failures.values() if isinstance(error, RefusedError)]
        raise full[0] if full else ConnectionFailedError("; ".join(map(str, failures.values())))

    async def mend(
        self,
        broken: Session | None,
        request: Transcript | None,
        cause: ConnectionLostError | RefusedError | None = None,
    ) -> None:
        """Replaces a session, unless that has happened meanwhile, and repeats the request.

        Addresses are tried in turn until one takes it; the caller's deadline bounds that. Where the
        cause is a server that has no memory for the request, each is tried once.

        Raises:
            RefusedError: a server refuses the request, or the session, which no other takes.
        """
        every, tried = set(self.addresses.every), set[str]()
        full = cause if isinstance(cause, RefusedError) else None
        if full is not None and (full.reason not in NO_ROOM or len(every) == 1):
            raise full
        async with self._mending:
            if self.current is not broken:
                return
            if broken is not None:
                take_leave(broken, request)
                await broken.close()
                self.current = None
                await self._hang_up()
            if full is not None:
                tried.add(self.addresses.next)
                self.addresses.pass_over(full, others=True)
            elif broken is not None:
                self.addresses.turn += 1
            attempt, asked_s = 0, None
            while True:
                if attempt:
                    await asyncio.sleep(wait_s(attempt, asked_s))
                attempt += 1
                try:
                    await self._replace(request)
                    break
                except (ConnectionFailedError, ConnectionLostError, RefusedError) as error:
                    tried.add(self.addresses.next)
                    if full is not None and tried == every:
                        raise full from error
                    self.addresses.pass_over(error, others=tried < every)
                    # a server's wish to wait does not hold for the next address
                    asked_s = getattr(error, "retry_s", None) if len(every) == 1 else None
            self.addresses.found()
            if request is not None:
                log.warning("the session moved to %s: %s", self.address, cause or "it was closed")

    async def move(self, leaving: Session, request: Transcript | None) -> None:
        """Leaves a server that is about to stop for another one, if one takes the session at once.

        Where none does, it stays until its server ends it.
        """
        async with self._mending:
            if self.current is not leaving or not leaving.leaving:
                return
            leaving.leaving = False  # tried once
            here, old = self.addresses.turn, self._connection
            for _ in self.addresses.every[1:]:
                self.addresses.turn += 1
                try:
                    await self._replace(request, keep=True)
                except ClientError as error:
                    log.info("stays at %s: %s", self.address, error)
                    continue
                take_leave(leaving, request)
                await leaving.close()
                if old is not None:
                    await old.channel.close()
                log.warning("the session moved to %s: its server is about to stop", self.address)
                return
            self.addresses.turn = here

    async def _replace(self, request: Transcript | None, keep: bool = False) -> None:
        """Opens a session and repeats the request; `keep`: over a connection of its own."""
        connection = None if keep else self._connection
        if connection is None:
            connection = await self.addresses.dial(_CONNECT_S)
        assert self._offer is not None
        session = None
        try:
            connection.check_protocol()
            self.link.begin()
            session = await Session.open(connection, self._offer, self.link)
            described: list[pb.CodedTensor] = []
            for message in request.again() if request is not None else ():
                if isinstance(message, pb.Begin):
                    await session.begin(message)
                    described = list(message.tensors)
                else:
                    await session.send(message)
                assert request is not None
                request.sent_bytes += message.ByteSize()
            if request is not None and request.chunks:
                await session.first_answer()  # or a refusal: there may be no room for its cache
        except BaseException:
            if session is not None:
                await session.close()
            await connection.channel.close()
            if connection is self._connection:
                self._connection = None
            raise
        self.current, self._connection, self.described = session, connection, described

    async def _hang_up(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            await self._connection.channel.close()
        self._connection = None

    async def leave(self, request: Transcript | None) -> None:
        """Ends the session, amid the request where there is one; the connection stays."""
        if self.current is not None:
            take_leave(self.current, request)
            await self.current.close()
            self.current = None

    async def close(self) -> None:
        """Ends everything; may be called twice."""
        await self.leave(None)
        await self._hang_up()


def take_leave(session: Session, request: Transcript | None) -> None:
    """Counts what the session has received for the request, which gets no more from it."""
    if request is not None:
        request.received_bytes += session.received_bytes.pop(request.begin.request, 0)
