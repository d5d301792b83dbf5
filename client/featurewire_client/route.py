"""Requests over sessions that may break: messages in, answers out, whoever gives them."""

from collections.abc import Awaitable, Callable

from featurewire.v1 import featurewire_pb2 as pb

from featurewire_client.chunks import cut
from featurewire_client.errors import ConnectionLostError, RefusedError, SessionError
from featurewire_client.session import Session
from featurewire_client.sessions import Sessions, take_leave
from featurewire_client.transcript import Transcript
from featurewire_client.window import UnderWay


class Route:
    """One request after the other, each over as many sessions as it takes.

    Attributes:
        sessions: what they go over.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self._requests = 0
        self._begun: Transcript | None = None  # the last of them, until it is over

    @property
    def under_way_bytes(self) -> int:
        """What was sent and is not answered yet."""
        session = self.sessions.current
        return session.under_way.bytes if session else 0

    async def _begin(self, request: Transcript) -> None:
        """Has a request announced, with its first chunk."""
        session = self.sessions.current
        if session is None or session.ended:
            await self.sessions.mend(session, None)
        elif session.leaving:
            await self.sessions.move(session, None)
        self._requests += 1
        request.begin.request = self._requests
        short, tensors = pb.Begin(), list(request.begin.tensors)
        short.CopyFrom(request.begin)
        if tensors == self.sessions.described:
            del short.tensors[:]
        assert self.sessions.current is not None
        self.sessions.current.begin(short)
        self.sessions.link.begin()
        self.sessions.described = tensors
        request.sent_bytes += short.ByteSize()
        self._begun = request

    async def send(self, request: Transcript, chunk: pb.Chunk) -> None:
        """Sends one more chunk of the request, or begins it, in pieces where the link is slow.

        Raises:
            ClientError: no server takes it.
        """
        if request is not self._begun:
            await self._begin(request)
        session = self.sessions.current
        under_way = session.under_way if session else UnderWay()
        for piece in cut([chunk], [under_way.piece_bytes]):
            await self._send(request, piece)

    async def _send(self, request: Transcript, chunk: pb.Chunk) -> None:
        session = self.sessions.current
        chunk.request = self._requests
        if session is not None and session.leaving:
            await self.sessions.move(session, request)
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
            raise SessionError(
                f"the server at {self.sessions.address} answered a step with no token"
            )
        if token.finish:
            self._over(request)
        return token

    async def finish(self, request: Transcript) -> None:
        """Waits until the request is answered whole, outputs and account.

        Raises:
            ClientError: no server gives them.
        """
        while request.account is None:
            request.note(await self._answer(request))
        self._over(request)

    def _over(self, request: Transcript) -> None:
        if self.sessions.current is not None:
            take_leave(self.sessions.current, request)
        self._begun = None

    async def _answer(self, request: Transcript) -> pb.InferResponse:
        while True:
            session = self.sessions.current
            try:
                if session is None:
                    raise ConnectionLostError("there is no session")
                return await session.answer(self._requests)
            except (ConnectionLostError, RefusedError) as error:
                await self.sessions.mend(session, request, error)

    async def _try(self, request: Transcript, act: Callable[[Session], Awaitable[None]]) -> None:
        """Writes once; what a broken session did not take, mending has sent again."""
        session = self.sessions.current
        try:
            if session is None:
                raise ConnectionLostError("there is no session")
            await act(session)
        except (ConnectionLostError, RefusedError) as error:
            await self.sessions.mend(session, request, error)

    async def abandon(self) -> None:
        """Ends the session amid a request; the connection stays for the next one."""
        await self.sessions.leave(self._begun)
        self._begun = None

    async def close(self) -> None:
        """Ends everything; may be called twice."""
        await self.abandon()
        await self.sessions.close()
