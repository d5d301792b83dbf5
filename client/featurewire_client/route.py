"""The way to a server that outlives its connections: requests in, answers out, whoever gives them.

When a connection breaks or a server is about to stop, another one is looked for. What the request
had sent is sent again; the tokens that were delivered go along, so that none is drawn twice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from featurewire.v1 import featurewire_pb2 as pb

from featurewire_client.addresses import Addresses, wait_s
from featurewire_client.chunks import cut
from featurewire_client.connection import Connection
from featurewire_client.errors import (
    NO_ROOM,
    ClientError,
    ConnectionFailedError,
    ConnectionLostError,
    RefusedError,
    SessionError,
)
from featurewire_client.link_estimate import LinkEstimate
from featurewire_client.session import Session
from featurewire_client.transcript import Transcript
from featurewire_client.window import UnderWay

log = logging.getLogger("featurewire.client")

_CONNECT_S = 5.0


class Route:
    """Sessions to one of several addresses, one at a time.

    Args:
        addresses: "host:port", or several with commas between.

    Attributes:
        addresses: which of them is asked next.
        link: what is known of the link, over all sessions.
    """

    def __init__(self, addresses: str) -> None:
        self.addresses = Addresses(addresses)
        self._offer: pb.Handshake | None = None
        self._session: Session | None = None
        self._connection: Connection | None = None
        self._mending = asyncio.Lock()
        self._requests = 0
        self._begun: Transcript | None = None  # the last of them, until it is over
        self.link = LinkEstimate()
        self._described: list[pb.CodedTensor] = []

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
                self._session = await Session.open(self._connection, self._offer, self.link)
            except (ConnectionFailedError, ConnectionLostError, RefusedError) as error:
                if not isinstance(error, ConnectionLostError):
                    failures[self.addresses.next] = error
                self.addresses.pass_over(error)
                await self._hang_up()
            else:
                self.addresses.found()
                self._described = []
                return self._connection
        full = [error for error in failures.values() if isinstance(error, RefusedError)]
        raise full[0] if full else ConnectionFailedError("; ".join(map(str, failures.values())))

    @property
    def address(self) -> str:
        """Where the session is, or was."""
        return self._connection.address if self._connection else self.addresses.next

    @property
    def under_way_bytes(self) -> int:
        """What was sent and is not answered yet."""
        return self._session.under_way.bytes if self._session else 0

    async def begin(self, request: Transcript) -> None:
        """Announces a request.

        Raises:
            ClientError: no server takes it.
        """
        session = self._session
        if session is None or session.ended:
            await self._mend(session, None)
        elif session.leaving:
            await self._move(session, None)
        self._requests += 1
        self._begun = request
        self.link.begin()
        request.begin.request = self._requests
        same = list(request.begin.tensors) == self._described
        short = pb.Begin()
        short.CopyFrom(request.begin)
        if same:
            del short.tensors[:]
        self._described = list(request.begin.tensors)
        request.sent_bytes += short.ByteSize()
        await self._try(request, lambda session: session.begin(short))

    async def send(self, request: Transcript, chunk: pb.Chunk) -> None:
        """Sends one more chunk of the request, in pieces where the link is slow.

        Raises:
            ClientError: no server takes it.
        """
        under_way = self._session.under_way if self._session else UnderWay()
        for piece in cut([chunk], [under_way.piece_bytes]):
            await self._send(request, piece)

    async def _send(self, request: Transcript, chunk: pb.Chunk) -> None:
        session = self._session
        chunk.request = self._requests
        if session is not None and session.leaving:
            await self._move(session, request)
        request.chunks.append(chunk)
        request.sent_bytes += chunk.ByteSize()
        await self._try(request, lambda session: session.send(chunk))

    async def token(self, request: Transcript) -> pb.Token:
        """The token that answers the last chunk.

        Raises:
            ClientError: no server gives it.
        """
        token = request.note(await self._answer(request))
        if token is None:
            raise SessionError(f"the server at {self.address} answered a step with no token")
        return token

    async def account(self, request: Transcript) -> None:
        """Waits for the account of a text that is complete: nothing is repeated for its sake.

        Raises:
            ClientError: the session is lost, and the account with it.
        """
        session = self._session
        if session is None:
            raise ConnectionLostError("there is no session")
        try:
            while request.account is None:
                request.note(await session.answer(self._requests))
        finally:
            self._take_leave(session, request)
            self._begun = None

    async def finish(self, request: Transcript) -> None:
        """Waits until the request is answered whole, outputs and account.

        Raises:
            ClientError: no server gives them.
        """
        while request.account is None:
            request.note(await self._answer(request))
        if self._session is not None:
            self._take_leave(self._session, request)
        self._begun = None

    async def _answer(self, request: Transcript) -> pb.InferResponse:
        while True:
            session = self._session
            try:
                if session is None:
                    raise ConnectionLostError("there is no session")
                return await session.answer(self._requests)
            except (ConnectionLostError, RefusedError) as error:
                await self._mend(session, request, error)

    async def _try(self, request: Transcript, act: Callable[[Session], object]) -> None:
        """Writes once; what a broken session did not take, mending has sent again."""
        session = self._session
        try:
            if session is None:
                raise ConnectionLostError("there is no session")
            await act(session)  # type: ignore[misc]
        except (ConnectionLostError, RefusedError) as error:
            await self._mend(session, request, error)

    async def _mend(
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
            if self._session is not broken:
                return
            if broken is not None:
                self._take_leave(broken, request)
                await broken.close()
                self._session = None
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

    async def _move(self, leaving: Session, request: Transcript | None) -> None:
        """Leaves a server that is about to stop for another one, if one takes the session at once.

        Where none does, it stays until its server ends it.
        """
        async with self._mending:
            if self._session is not leaving or not leaving.leaving:
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
                self._take_leave(leaving, request)
                await leaving.close()
                if old is not None:
                    await old.channel.close()
                log.warning("the session moved to %s: its server is about to stop", self.address)
                return
            self.addresses.turn = here

    def _take_leave(self, session: Session, request: Transcript | None) -> None:
        """Counts what the session has received for the request, which gets no more from it."""
        if request is not None:
            request.received_bytes += session.received_bytes.pop(self._requests, 0)

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
        self._session, self._connection, self._described = session, connection, described

    async def _hang_up(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            await self._connection.channel.close()
        self._connection = None

    async def abandon(self) -> None:
        """Ends the session amid a request; the connection stays for the next one."""
        if self._session is not None:
            self._take_leave(self._session, self._begun)
            await self._session.close()
            self._session = None
        self._begun = None

    async def close(self) -> None:
        """Ends everything; may be called twice."""
        await self.abandon()
        await self._hang_up()
