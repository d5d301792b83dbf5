"""The gRPC service: calls in, sessions driven, failures turned into statuses."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import grpc
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.v1 import featurewire_pb2_grpc as rpc
from featurewire.wire import limits
from featurewire.wire.coder import Coder
from featurewire.wire.metrics import WireMetrics
from featurewire.wire.profiles import PROFILE_FILES
from featurewire.wire.status import Refusal, trailers
from featurewire_codec import CodecError
from featurewire_models import ModelError

from featurewire_server.config import ServerConfig
from featurewire_server.handshake import Terms, agree
from featurewire_server.session import Session, Workers, out_of_order
from featurewire_server.tails import Tails

log = logging.getLogger("featurewire.server")

_PAGE_BYTES = 1024 * 1024
_RETRY_S = 1.0

Context = grpc.aio.ServicerContext[object, object]


def as_refusal(error: Exception) -> Refusal | None:
    """The refusal that an error of ours comes to; None for one that nobody expected."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, CodecError):
        return Refusal("BITSTREAM_INVALID", str(error))
    if isinstance(error, ModelError):
        return Refusal("INPUT_INVALID", str(error))
    return None


class SplitInferenceService(rpc.SplitInferenceServiceServicer):
    """Serves every model of `tails`; one Session a stream."""

    def __init__(
        self, tails: Tails, workers: Workers, metrics: WireMetrics, config: ServerConfig
    ) -> None:
        self._tails = tails
        self._workers = workers
        self._metrics = metrics
        self._config = config
        self._open = 0

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
            payload = file.read(_PAGE_BYTES)
        return pb.GetProfileResponse(payload=payload, total_bytes=path.stat().st_size)

    async def Infer(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.InferRequest], context: Context
    ) -> AsyncIterator[pb.InferResponse]:
        if self._open >= self._config.max_sessions:
            message = f"{self._open} sessions are open; {self._config.max_sessions} are allowed"
            full = Refusal("SERVER_FULL", message, retry_s=_RETRY_S)
            await self._abort(context, full)
        session: Session | None = None
        self._open += 1
        self._metrics.sessions.inc()
        try:
            async for request in request_iterator:
                if session is None:
                    terms = self._agree(request)
                    # off the loop, and before the reply: no request waits for what a codec loads
                    coder = await asyncio.to_thread(Coder, terms.codec, terms.profiles.profiles)
                    session = Session(terms, coder, self._workers, self._metrics, context.peer())
                    yield pb.InferResponse(handshake=terms.reply())
                    continue
                async for response in session.receive(request):
                    yield response
        except Exception as error:
            refusal = as_refusal(error)
            if refusal is None:
                log.exception("error peer=%s", context.peer())
                self._metrics.errors.labels("INTERNAL").inc()
                await context.abort(grpc.StatusCode.INTERNAL, "the server failed; see its log")
            await self._abort(context, refusal)
        finally:
            if session is not None:
                session.end_request()
            self._open -= 1
            self._metrics.sessions.dec()

    def _agree(self, first: pb.InferRequest) -> Terms:
        if not first.HasField("handshake"):
            raise out_of_order(first.WhichOneof("message"), "handshake")
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
        self._metrics.errors.labels(refusal.code.name).inc()
        log.warning("refused peer=%s reason=%s: %s", context.peer(), refusal.reason, refusal)
        await context.abort(refusal.code, str(refusal), trailers(refusal))
        raise refusal  # abort has raised already; this tells the type checker
