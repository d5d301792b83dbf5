"""One stream to the server: a request's messages out, its answers in."""

import asyncio
from collections import Counter
from typing import Any

import grpc
from featurewire.v1 import featurewire_pb2 as pb

from featurewire_client.connection import Connection
from featurewire_client.errors import (
    ClientError,
    ConnectionLostError,
    SessionError,
    SettingError,
    client_error,
)
from featurewire_client.link_estimate import Acknowledged, LinkEstimate
from featurewire_client.pulse import Pulse
from featurewire_client.stream_end import StreamEnd
from featurewire_client.window import UnderWay

_ANSWERS_WAITING = 64


class Session:
    """An open stream that has shaken hands.

    Attributes:
        terms: what the server agreed to.
        leaving: the server is about to stop, and takes no new request.
        received_bytes: serialised size of the answers to each request, acknowledgements included.
        under_way: what is sent and not answered yet.
    """

    def __init__(self, connection: Connection, call: Any, link: LinkEstimate) -> None:
        self.connection = connection
        self._link = link
        self.terms = pb.HandshakeReply()
        self.leaving = False
        self.received_bytes: Counter[int] = Counter()
        self._call = call
        self._end = StreamEnd(call)
        self.under_way = UnderWay()
        self._changed = asyncio.Condition()
        self._answers: asyncio.Queue[pb.InferResponse | None] = asyncio.Queue(_ANSWERS_WAITING)
        self._failure: ClientError | None = None
        self._pulse = Pulse(connection)
        self._silence: ConnectionLostError | None = None
        self._watcher = asyncio.create_task(self._watch())
        self._begin: pb.Begin | None = None  # until its first chunk goes
        self._listener: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, connection: Connection, offer: pb.Handshake, link: LinkEstimate | None = None
    ) -> "Session":
        """Opens a stream and agrees on its terms; `link` learns from its acknowledgements.

        Raises:
            ClientError: the server is gone, or refuses the offer.
        """
        session = cls(connection, connection.stub.Infer(), link or LinkEstimate())
        try:
            await session._write(pb.InferRequest(handshake=offer))
            reply = await session._read()
            while reply.HasField("go_away"):
                session.leaving = True
                reply = await session._read()
            if reply.WhichOneof("message") != "handshake":
                raise session._unexpected(reply, "handshake")
            session.terms = reply.handshake
        except BaseException:
            await session.close()
            raise
        session._listener = asyncio.create_task(session._listen())
        return session

    def begin(self, begin: pb.Begin) -> None:
        """Announces a request, with its first chunk.

        Raises:
            SettingError: what travels uncoded is more than the server takes.
        """
        size = sum(len(raw.payload) for raw in begin.uncoded)
        allowed = self.terms.limits.max_uncoded_bytes
        if size > allowed:
            names = ", ".join(raw.name for raw in begin.uncoded)
            message = f"{names} travel uncoded and have {size} bytes; {allowed} are allowed"
            raise SettingError(message)
        self._begin = begin

    async def send(self, chunk: pb.Chunk) -> None:
        """Sends a chunk once the link, and the server's limit of them under way, have room for it.

        Raises:
            ClientError: the server is gone, or has refused.
        """
        async with self._changed:
            await self._changed.wait_for(
                lambda: (
                    self._failure
                    or (
                        self.under_way.chunks < self.terms.limits.max_chunks_in_flight
                        and self.under_way.has_room
                    )
                )
            )
            if self._failure:
                raise self._failure
            self.under_way.sent(chunk.ByteSize())
        begin, self._begin = self._begin, None
        await self._write(pb.InferRequest(begin=begin, chunk=chunk))

    async def answer(self, request: int) -> pb.InferResponse:
        """The next answer to the request: an output, a token or the account.

        Raises:
            ClientError: the server is gone, or has refused.
        """
        while True:
            response = await self._answers.get()
            if response is None:
                self._answers.put_nowait(None)  # for whoever asks next
                assert self._failure is not None
                raise self._failure
            if _request_of(response) == request:  # else of one that was left early
                return response

    async def first_answer(self) -> None:
        """Waits until anything that was sent is acknowledged or answered.

        Raises:
            ClientError: the server is gone, or has refused it.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._failure or self.received_bytes)
        if self._failure and not self.received_bytes:
            raise self._failure

    async def _listen(self) -> None:
        """Reads until the stream ends: counts what is acknowledged, keeps answers."""
        try:
            while True:
                response = await self._read()
                kind = _kind_of(response)
                if kind == "go_away":
                    self.leaving = True
                    continue
                if kind not in ("ack", "token", "output", "account"):
                    raise self._unexpected(response, "an answer")
                self.received_bytes[_request_of(response)] += response.ByteSize()
                if kind in ("ack", "token"):
                    self._take_off(response)
                    async with self._changed:
                        self._changed.notify_all()
                if kind in ("token", "output", "account"):
                    await self._answers.put(response)
        except ClientError as error:
            self._failure = error
            self._forget()
            async with self._changed:
                self._changed.notify_all()
            await self._answers.put(None)

    def _take_off(self, response: pb.InferResponse) -> None:
        """Notes that a chunk is under way no more."""
        if response.HasField("token"):
            self.under_way.answered()
        elif measured := self.under_way.acknowledged(self._link.round_trip_s or 0.0):
            (size, sent_s, now), ack = measured, response.ack
            read_s, followed = ack.received_ns / 1e9, self.under_way.chunks > 0
            self._link.acknowledged(Acknowledged(size, sent_s, read_s, now, ack.late, followed))
        self._link.changed()

    def _forget(self) -> None:
        """No acknowledgement comes: nobody waits for one."""
        self.under_way.forget()
        self._link.changed()

    async def _watch(self) -> None:
        """Gives up a server that has fallen silent: whoever reads or writes is told."""
        silent_s = await self._pulse.silence()
        self._silence = ConnectionLostError(
            f"the server at {self.connection.address} has been silent for {silent_s:.0f} s"
        )
        self._call.cancel()

    @property
    def ended(self) -> bool:
        """The server, or the network, has ended the stream."""
        return self._failure is not None or bool(self._call.done())

    async def close(self) -> None:
        """Ends the stream; the server frees what it kept."""
        self._watcher.cancel()
        if self._listener is not None:
            self._listener.cancel()
        self._forget()
        if not self._call.done():
            self._call.cancel()

    async def _write(self, message: pb.InferRequest) -> None:
        try:
            await self._call.write(message)
        except asyncio.InvalidStateError:
            raise await self._ended() from None
        except grpc.aio.AioRpcError as error:
            raise await self._ended() from error
        except asyncio.CancelledError:
            self._check_silence()
            raise

    async def _read(self) -> pb.InferResponse:
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise await self._ended() from error
        except asyncio.CancelledError:
            self._check_silence()
            raise
        if response is grpc.aio.EOF:
            raise await self._ended()
        assert isinstance(response, pb.InferResponse)
        self._pulse.heard()
        return response

    def _check_silence(self) -> None:
        """Raises ConnectionLostError: not our task was cancelled, but the call, by `_watch`."""
        task = asyncio.current_task()
        if self._silence is not None and not (task and task.cancelling()):
            raise self._silence from None

    def _unexpected(self, response: pb.InferResponse, expected: str) -> SessionError:
        found = _kind_of(response)
        return SessionError(f"the server sent a {found} where {expected} was expected")

    async def _ended(self) -> ClientError:
        """Why the stream is over, when it was found to be."""
        if self._silence is not None:
            return self._silence
        status, address = await self._end.status(), self.connection.address
        if status.code() is grpc.StatusCode.OK:
            return ConnectionLostError(f"the server at {address} ended the session")
        return client_error(status, address, connected=True)


def _kind_of(response: pb.InferResponse) -> str:
    alone = "account" if response.HasField("account") else "nameless message"
    return response.WhichOneof("message") or alone


def _request_of(response: pb.InferResponse) -> int:
    return int(getattr(response, _kind_of(response)).request)
