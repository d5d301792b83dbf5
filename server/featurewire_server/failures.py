"""What ends a stream: an error in, gRPC's status out, with a line in the log and a count."""

import logging

import grpc
from featurewire.wire.status import Refusal, trailers
from featurewire_codec import CodecError
from featurewire_models import ModelError

from featurewire_server.metrics import ServerMetrics
from featurewire_server.stream import GoneError, NotReadingError

log = logging.getLogger("featurewire.server")

Status = tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]


def status_of(error: Exception, peer: str, metrics: ServerMetrics) -> Status | None:
    """How to end a stream that came to an error; None: gRPC resets it, nobody is told."""
    error = _first(error)
    if isinstance(error, NotReadingError):
        log.warning("dropped peer=%s: it does not read", peer)
        return None  # it would wait behind a write that is stuck
    if isinstance(error, GoneError):
        log.info("cancelled peer=%s amid a request", peer)
        metrics.errors.labels("CANCELLED").inc()
        return None
    if (refusal := _as_refusal(error)) is not None:
        return refused(refusal, peer, metrics)
    log.error("error peer=%s", peer, exc_info=error)
    metrics.errors.labels("INTERNAL").inc()
    return grpc.StatusCode.INTERNAL, "the server failed; see its log", ()


def refused(refusal: Refusal, peer: str, metrics: ServerMetrics) -> Status:
    """A refusal as gRPC sends it."""
    metrics.errors.labels(refusal.code.name).inc()
    log.warning("refused peer=%s reason=%s: %s", peer, refusal.reason, refusal)
    return refusal.code, str(refusal), trailers(refusal)


def forget(error: BaseException) -> None:
    """Lets go of the frames that an error came through, and of what they hold: features.

    An error is often part of a cycle with them, and may be there until Python looks for those.
    """
    error.__traceback__ = None
    within = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    before = [one for one in (error.__cause__, error.__context__) if one is not None]
    error.__cause__ = error.__context__ = None
    for one in (*within, *before):
        forget(one)


def _first(error: Exception) -> Exception:
    """The error that ended a group of tasks: one of ours before one of gRPC's."""
    while isinstance(error, ExceptionGroup):
        error = min(error.exceptions, key=lambda one: _as_refusal(one) is None)
    return error


def _as_refusal(error: Exception) -> Refusal | None:
    """The refusal that an error of ours comes to; None for one that nobody expected."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, CodecError):
        return Refusal("BITSTREAM_INVALID", str(error))
    if isinstance(error, ModelError):
        return Refusal("INPUT_INVALID", str(error))
    return None
