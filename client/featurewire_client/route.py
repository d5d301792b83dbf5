"""The way to a server that outlives its connections: requests in, answers out, whoever gives them.

When a connection breaks or a server is about to stop, the next address is tried, at once and then
after waits that grow, are capped and are random ("full jitter"). What the request had sent is sent
again; the tokens that were delivered go along, so that none is drawn twice.
"""

import asyncio
import logging
import random
from collections.abc import Callable

from featurewire.v1 import featurewire_pb2 as pb

from featurewire_client.connection import Connection, connect, parse_addresses
from featurewire_client.errors import (
    ConnectionFailedError,
    ConnectionLostError,
)
from featurewire_client.link_estimate import LinkEstimate
from featurewire_client.session import Session
from featurewire_client.transcript import Transcript

log = logging.getLogger("featurewire.client")

_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 2.0
_CONNECT_S = 5.0


class Route:
    """Sessions to one of several addresses, one at a time.

    Args:
        addresses: "host:port", or several with commas between.

    Attributes:
        link: what is known of the link, over all sessions.
    """

    def __init__(self, addresses: str) -> None:
        self._addresses = parse_addresses(addresses)
        self._turn = 0
        self._offer: pb.Handshake | None = None
        self._trouble = ""
        self._session: Session | None = None
        self._connection: Connection | None = None
        self._mending = asyncio.Lock()
        self._requests = 0
        self.link = LinkEstimate()
        self._described: list[pb.CodedTensor] = []

    async def connect(self, timeout_s: float) -> Connection:
        """Connects to the first address that answers.

        Raises:
            ConnectionFailedError: none does.
        """
        failures = []
        for _ in self._addresses:
            address = self._addresses[self._turn % len(self._addresses)]
            try:
                self._connection = await connect(address, timeout_s)
                return self._connection
            except ConnectionFailedError as error:
                failures.append(str(error))
                self._turn += 1
        raise ConnectionFailedError("; ".join(failures))

    async def open(self, offer: pb.Handshake) -> pb.HandshakeReply:
        """Opens the first session, on the connection that is there; others will offer the same.

        Raises:
            ClientError: the server is gone, or refuses.
        """
        assert self._connection is not None
        self._offer = offer
        self._session = await Session.open(self._connection, offer, self.link)
        self._described = []
        return self._session.terms

    def overdue(self, timeout_s: float) -> str:
        """What to say of a request that took longer than it may."""
        addresses = ", ".join(self._addresses)
        cause = f"; the last failure: {self._trouble}" if self._trouble else ""
        return f"no answer from {addresses} within {timeout_s:g} s{cause}"

    @property
    def address(self) -> str:
        """Where the session is, or was."""
        return self._connection.address if self._connection else self._addresses[0]

    async def begin(self, request: Transcript) -> None:
        """Announces a request.

        Raises:
            ClientError: no server takes it.
        """
        session = self._session
        if session is None or session.ended or (session.leaving and len(self._addresses) > 1):
            await self._mend(session, None)
        self._requests += 1
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
        """Sends one more chunk of the request.

        Raises:
            ClientError: no server takes it.
        """
        session = self._session
        chunk.request = self._requests
        if session is not None and session.leaving and len(self._addresses) > 1:
            await self._mend(session, request)
        request.chunks.append(chunk)
        request.sent_bytes += chunk.ByteSize()
        await self._try(request, lambda session: session.send(chunk))

    async def token(self, request: Transcript) -> pb.Token:
        """The token that answers the last chunk.

        Raises:
            ClientError: no server gives it.
        """
        while True:
            token = request.note(await self._answer(request))
            if token is not None:
                return token

    async def finish(self, request: Transcript) -> None:
        """Waits until the request is answered whole, outputs and account.

        Raises:
            ClientError: no server gives them.
        """
        while request.account is None:
            request.note(await self._answer(request))
        if self._session is not None:
            request.received_bytes += self._session.received_bytes.pop(self._requests, 0)

    async def _answer(self, request: Transcript) -> pb.InferResponse:
        while True:
            session = self._session
            try:
                if session is None:
                    raise ConnectionLostError("there is no session")
                return await session.answer(self._requests)
            except ConnectionLostError as error:
                await self._mend(session, request, error)

    async def _try(self, request: Transcript, act: Callable[[Session], object]) -> None:
        """Writes once; what a broken session did not take, mending has sent again."""
        session = self._session
        try:
            if session is None:
                raise ConnectionLostError("there is no session")
            await act(session)  # type: ignore[misc]
        except ConnectionLostError as error:
            await self._mend(session, request, error)

    async def _mend(
        self,
        broken: Session | None,
        request: Transcript | None,
        cause: ConnectionLostError | None = None,
    ) -> None:
        """Replaces a session, unless that has happened meanwhile, and repeats the request."""
        async with self._mending:
            if self._session is not broken:
                return
            if broken is not None:
                if request is not None:
                    request.received_bytes += broken.received_bytes.pop(self._requests, 0)
                await self._leave()
                self._turn += 1
            attempt = 0
            while True:
                if attempt:
                    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt)
                    await asyncio.sleep(random.uniform(0, longest))
                attempt += 1
                try:
                    await self._replace(request)
                    self._trouble = ""
                    break
                except (ConnectionFailedError, ConnectionLostError) as error:
                    self._trouble = str(error)
                    log.info("no session yet: %s", error)
                    self._turn += 1
            if request is not None:
                log.warning("the session moved to %s: %s", self.address, cause or "GOAWAY")

    async def _replace(self, request: Transcript | None) -> None:
        await self._leave()
        connection = await self.connect(_CONNECT_S)
        connection.check_protocol()
        assert self._offer is not None
        self.link.forget()
        session = await Session.open(connection, self._offer, self.link)
        try:
            self._described = []
            if request is not None:
                for message in request.again():
                    request.sent_bytes += message.ByteSize()
                    if isinstance(message, pb.Begin):
                        await session.begin(message)
                        self._described = list(message.tensors)
                    else:
                        await session.send(message)
        except BaseException:
            await session.close()
            raise
        self._session = session

    async def _leave(self) -> None:
        """Ends the session and its connection."""
        if self._session is not None:
            await self._session.close()
        if self._connection is not None:
            await self._connection.channel.close()
        self._session = self._connection = None

    async def abandon(self) -> None:
        """Ends the session amid a request; the connection stays for the next one."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def close(self) -> None:
        """Ends everything; may be called twice."""
        await self._leave()
