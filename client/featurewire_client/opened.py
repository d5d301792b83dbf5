"""A session that is open and not in use yet: a connection in, a session that can go on out."""

from dataclasses import dataclass
from typing import Self

from featurewire.v1 import featurewire_pb2 as pb

from featurewire_client.connection import Connection
from featurewire_client.link_estimate import LinkEstimate
from featurewire_client.session import Session
from featurewire_client.transcript import Transcript


@dataclass(frozen=True)
class Opened:
    """A session over a connection of its own.

    Attributes:
        turn: whose address it is with (`Addresses.turn`).
        link: what is known of the link.
    """

    turn: int
    connection: Connection
    session: Session
    link: LinkEstimate

    @classmethod
    async def over(
        cls, connection: Connection, turn: int, offer: pb.Handshake, link: LinkEstimate
    ) -> Self:
        """Shakes hands; the connection is closed where that fails.

        Raises:
            ClientError: the server is gone, or refuses the offer.
        """
        try:
            connection.check_protocol()
            return cls(turn, connection, await Session.open(connection, offer, link), link)
        except BaseException:
            await connection.channel.close()
            raise

    async def repeat(self, request: Transcript | None) -> list[pb.CodedTensor]:
        """Brings the session to where another one was; the tensors that it was told of.

        It is closed where that fails.

        Raises:
            ClientError: the server is gone, or refuses the request.
        """
        described: list[pb.CodedTensor] = []
        if request is None:
            return described
        self.link.begin()
        try:
            for message in request.again():
                if isinstance(message, pb.Begin):
                    self.session.begin(message)
                    described = list(message.tensors)
                else:
                    await self.session.send(message)
                request.sent_bytes += message.ByteSize()
            if request.chunks:
                await self.session.first_answer()  # or a refusal: its cache may have no room
        except BaseException:
            await self.close()
            raise
        return described

    async def close(self) -> None:
        """Ends session and connection."""
        await self.session.close()
        await self.connection.channel.close()
