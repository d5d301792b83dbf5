"""The gRPC service: calls in, sessions driven."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import grpc
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.v1 import featurewire_pb2_grpc as rpc
from featurewire.wire import limits
from featurewire.wire.coder import Coder
from featurewire.wire.profiles import PROFILE_FILES
from featurewire.wire.status import Refusal

from featurewire_server.answers import Shared
from featurewire_server.config import ServerConfig
from featurewire_server.failures import forget, refused, status_of
from featurewire_server.handshake import Terms, agree
from featurewire_server.refusals import out_of_order, server_full
from featurewire_server.session import Session
from featurewire_server.stream import Context, GoneError, Stream
from featurewire_server.tails import Tails

_PAGE_BYTES = 1024 * 1024
_TELLING_S = 1.0  # that every session has to take a GoAway
_ENDING_S = 1.0  # for sessions that gRPC has cancelled
_LOOPS_BEHIND = 5  # of the event loop, in which gRPC's own tasks end behind a session's


class SplitInferenceService(rpc.SplitInferenceServiceServicer):
    """Serves every model of `tails`; one Session a stream."""

    def __init__(self, tails: Tails, shared: Shared, config: ServerConfig) -> None:
        self._tails = tails
        self._shared = shared
        self._metrics = shared.metrics
        self._config = config
        self._streams: set[Stream] = set()
        self._leaving = asyncio.Event()
        self._empty = asyncio.Event()

    @property
    def open_sessions(self) -> int:
        """Streams that have not ended."""
        return len(self._streams)

    async def ListModels(  # noqa: N802 (the name that the .proto gives)
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        return pb.ListModelsResponse(
            protocol_min=limits.PROTOCOL_MIN,
            protocol_max=limits.PROTOCOL_MAX,
            models=self._tails.describe(),
            codecs=limits.CODECS,
        )

    async def GetProfile(  # noqa: N802
        self, request: pb.GetProfileRequest, context: Context
    ) -> pb.GetProfileResponse:
        try:
            path = self._profile_file(request)
        except Refusal as refusal:
            await self._abort(context, refusal)
        with path.open("rb") as file:
            file.seek(min(request.offset, path.stat().st_size))
            payload = file.read(min(request.max_bytes or _PAGE_BYTES, _PAGE_BYTES))
        return pb.GetProfileResponse(payload=payload, total_bytes=path.stat().st_size)

    async def Probe(  # noqa: N802
        self, request: pb.ProbeRequest, context: Context
    ) -> pb.ProbeResponse:
        return pb.ProbeResponse()

    async def Infer(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.InferRequest], context: Context
    ) -> None:
        if self._leaving.is_set():
            self._metrics.errors.labels("UNAVAILABLE").inc()
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is about to stop")
        try:
            self._make_room()
        except Refusal as full:
            await self._abort(context, full)
        stream = Stream(context, self._config.idle_s)
        self._streams.add(stream)
        self._count_sessions()
        leaving = asyncio.create_task(self._leave(stream))
        failed, status = False, None
        try:
            await self._converse(request_iterator, stream)
        except Exception as error:
            failed, status = True, status_of(error, stream.peer, self._metrics)
            forget(error)
        finally:
            leaving.cancel()
            self._streams.discard(stream)
            self._count_sessions()
        if status is not None:  # not amid the error, which gRPC would keep with it
            await context.abort(*status)
        if failed:
            raise asyncio.CancelledError

    async def _converse(self, requests: AsyncIterator[pb.InferRequest], stream: Stream) -> None:
        """Handshake, then messages in and answers out, each in a task of its own."""
        incoming = aiter(requests)
        first = await self._next(incoming, stream)
        if first is None:
            return
        terms = self._agree(first)
        # off the loop, and before the reply: no request waits for what a codec loads
        coder = await asyncio.to_thread(Coder, terms.codec, terms.profiles.profiles)
        stream.session = session = Session(terms, coder, self._shared, stream.peer)
        await stream.write(pb.InferResponse(handshake=terms.reply()))

        async def read() -> None:
            while (message := await self._next(incoming, stream)) is not None:
                if (ack := await session.receive(message)) is not None:
                    await stream.write(ack)
            await session.end()

        async def answer() -> None:
            async for response in session.answers():
                await stream.write(response)

        try:
            async with asyncio.TaskGroup() as tasks:
                for part in (read(), session.decode(), answer()):
                    tasks.create_task(part)
        except asyncio.CancelledError:
            if session.at_rest:  # as clients end their sessions
                raise
            raise GoneError from None
        finally:
            session.close()

    async def _next(
        self, incoming: AsyncIterator[pb.InferRequest], stream: Stream
    ) -> pb.InferRequest | None:
        """The next message, the handshake where there is no session yet; None once it is over.

        Raises:
            Refusal: none came for too long, while the session had nothing to do; or another
                session needs its place.
        """
        session = stream.session
        what, patience_s = "session was idle", self._config.idle_s
        if session is None:
            what, patience_s = "handshake did not come", limits.HANDSHAKE_S
        waiting = asyncio.ensure_future(anext(incoming, None))
        try:
            while not waiting.done():
                done, _ = await asyncio.wait(
                    (waiting, stream.over),
                    timeout=patience_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if stream.over in done:
                    if refusal := stream.over.result():
                        raise refusal
                    return None
                if not (done or (session and session.is_busy)):
                    message = f"the {what} for {patience_s:g} s, as long as is allowed"
                    raise Refusal("SESSION_IDLE", message)
            stream.used()
            return await waiting
        finally:
            waiting.cancel()

    async def _leave(self, stream: Stream) -> None:
        """Ends the stream once the server is about to stop and no request is under way."""
        await self._leaving.wait()
        if stream.session is not None:
            await stream.session.rest()
        stream.end()

    def _make_room(self) -> None:
        """Where all places are taken, ends the session that was unused the longest.

        Raises:
            Refusal: every session is in use, or was until a moment ago.
        """
        holders = [stream for stream in self._streams if not stream.over.done()]
        most = self._config.max_sessions
        if len(holders) < most:
            return
        idle = max(holders, key=lambda stream: stream.unused_s)
        if idle.unused_s < limits.KEPT_S:
            message = f"no place for another session: {len(holders)} open, {most} allowed"
            raise server_full(message)
        message = f"the session was idle for {idle.unused_s:.0f} s and another needs its place"
        idle.end(Refusal("SESSION_IDLE", message))

    def _count_sessions(self) -> None:
        self._metrics.open_sessions = len(self._streams)
        self._metrics.sessions.set(len(self._streams))
        if not self._streams:
            self._empty.set()

    async def ended(self) -> None:
        """Waits until every session is over: gRPC does not, for one whose client has gone."""
        if self._streams:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), _ENDING_S)
        for _ in range(_LOOPS_BEHIND):
            await asyncio.sleep(0)

    async def go_away(self) -> None:
        """Tells every session that the server is about to stop; who does not read is not told.

        From now on no session is opened, and one ends once it has no request under way.
        """
        self._leaving.set()
        message = pb.InferResponse(go_away=pb.GoAway(grace_ms=int(1000 * self._config.grace_s)))
        told = [asyncio.ensure_future(stream.write(message)) for stream in list(self._streams)]
        if told:
            _, untold = await asyncio.wait(told, timeout=_TELLING_S)
            for task in untold:
                task.cancel()
            await asyncio.gather(*told, return_exceptions=True)

    def _agree(self, first: pb.InferRequest) -> Terms:
        if first.HasField("begin") or not first.HasField("handshake"):
            found = "begin" if first.HasField("begin") else first.WhichOneof("message")
            raise out_of_order(f"a {found or 'nameless'} message", "a handshake alone")
        return agree(first.handshake, self._tails, self._config.dtype)

    def _profile_file(self, request: pb.GetProfileRequest) -> Path:
        held = self._tails.find_profiles(request.digest)
        if request.tensor not in held.profiles or request.file not in PROFILE_FILES:
            found = f"{request.tensor}/{request.file}"
            allowed = f"{sorted(held.profiles)} with {PROFILE_FILES}"
            message = f"no file {found!r} in those profiles; they have {allowed}"
            raise Refusal("PROFILE_UNKNOWN", message, found=found, allowed=allowed)
        assert held.folder is not None
        return held.folder / request.tensor / request.file

    async def _abort(self, context: Context, refusal: Refusal) -> NoReturn:
        await context.abort(*refused(refusal, context.peer(), self._metrics))
        raise refusal  # abort has raised already; this tells the type checker
