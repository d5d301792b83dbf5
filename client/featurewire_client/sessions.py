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
from featurewire_client.opened import Opened
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
        self._spare: asyncio.Task[Opened | None] | None = None
        self._closed = False

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
        self._closed = False
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
                # the next server must compute alike, or what it goes on with differs
                self._offer.dtype = self.current.terms.dtype
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
            await self._drop_spare()
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
        """Leaves a server that is about to stop for another one, once that has opened a session.

        Nothing waits for that. Where no other takes it, it stays until its server ends it.
        """
        async with self._mending:
            if self.current is not leaving or not leaving.leaving:
                return
            if self._spare is None:
                self._spare = asyncio.create_task(self._find_spare(self.addresses.turn + 1))
            if not self._spare.done():
                return
            spare, self._spare, old = self._spare.result(), None, self._connection
            if spare is None:
                leaving.leaving = False  # every one was tried
                return
            try:
                await self._take(spare, request)
            except ClientError as error:
                log.info("stays at %s: %s", self.address, error)
                self._spare = asyncio.create_task(self._find_spare(spare.turn + 1))
                return
            take_leave(leaving, request)
            await leaving.close()
            if old is not None:
                await old.channel.close()
            log.warning("the session moved to %s: its server is about to stop", self.address)

    async def _find_spare(self, first: int) -> Opened | None:
        """A session with another address, from that turn on, that opens one."""
        assert self._offer is not None
        for turn in range(first, self.addresses.turn + len(self.addresses.every)):
            try:
                async with asyncio.timeout(_CONNECT_S):
                    connection = await self.addresses.dial(_CONNECT_S, turn)
                    return await Opened.over(connection, turn, self._offer, self.link)
            except (ClientError, TimeoutError) as error:
                log.info("stays at %s: %s", self.address, error or "the next one does not answer")
        return None

    async def _drop_spare(self) -> None:
        if self._spare is None:
            return
        task, self._spare = self._spare, None
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (spare := task.result()) is not None:
            await spare.close()

    async def _replace(self, request: Transcript | None) -> None:
        """Opens a session with the next address and repeats the request."""
        assert self._offer is not None
        connection, self._connection = self._connection, None
        if connection is None:
            connection = await self.addresses.dial(_CONNECT_S)
        opened = await Opened.over(connection, self.addresses.turn, self._offer, self.link)
        await self._take(opened, request)

    async def _take(self, opened: Opened, request: Transcript | None) -> None:
        """Brings a session to where the old one was, and goes on with it."""
        described = await opened.repeat(request)
        if self._closed:
            await opened.close()
            raise ClientError("the client is closed")
        self.addresses.turn = opened.turn
        self.current, self._connection = opened.session, opened.connection
        self.described = described
        if request is not None:
            request.replays += 1

    async def _hang_up(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            await self._connection.channel.close()
        self._connection = None

    async def leave(self, request: Transcript | None) -> None:
        """Ends the session, amid the request where there is one; the connection stays."""
        await self._drop_spare()
        if self.current is not None:
            take_leave(self.current, request)
            await self.current.close()
            self.current = None

    async def close(self) -> None:
        """Ends everything, also what is being opened now; may be called twice."""
        self._closed = True
        await self.leave(None)
        await self._hang_up()


def take_leave(session: Session, request: Transcript | None) -> None:
    """Counts what the session has received for the request, which gets no more from it."""
    if request is not None:
        request.received_bytes += session.received_bytes.pop(request.begin.request, 0)
