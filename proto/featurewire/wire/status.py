"""Why a peer refuses, as a gRPC status with `google.rpc` details, and back.

One table says which canonical code a reason has; messages say what was found and what is allowed.
"""

from collections.abc import Iterable

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "featurewire"
DETAILS_KEY = "grpc-status-details-bin"

REASONS: dict[str, grpc.StatusCode] = {
    "PROTOCOL_MISMATCH": grpc.StatusCode.FAILED_PRECONDITION,
    "REVISION_MISMATCH": grpc.StatusCode.FAILED_PRECONDITION,
    "PROFILE_MISMATCH": grpc.StatusCode.FAILED_PRECONDITION,
    "DTYPE_MISMATCH": grpc.StatusCode.FAILED_PRECONDITION,
    "MODEL_UNKNOWN": grpc.StatusCode.NOT_FOUND,
    "PROFILE_UNKNOWN": grpc.StatusCode.NOT_FOUND,
    "SPLIT_UNKNOWN": grpc.StatusCode.FAILED_PRECONDITION,
    "TASK_UNKNOWN": grpc.StatusCode.FAILED_PRECONDITION,
    "CODEC_UNKNOWN": grpc.StatusCode.FAILED_PRECONDITION,
    "MESSAGE_OUT_OF_ORDER": grpc.StatusCode.INVALID_ARGUMENT,
    "TENSOR_MALFORMED": grpc.StatusCode.INVALID_ARGUMENT,
    "BITSTREAM_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "INPUT_INVALID": grpc.StatusCode.INVALID_ARGUMENT,
    "TOO_LARGE": grpc.StatusCode.INVALID_ARGUMENT,
    "SERVER_FULL": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "CACHE_TOO_SMALL": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "SESSION_IDLE": grpc.StatusCode.ABORTED,
}


class Refusal(Exception):
    """A peer's message cannot be served, for one of REASONS.

    Attributes:
        reason: a key of REASONS.
        found, allowed: what came and what would have been taken, for machines to read.
        retry_s: seconds after which the same call may succeed; None when it never will.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        found: str = "",
        allowed: str = "",
        retry_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.found = found
        self.allowed = allowed
        self.retry_s = retry_s

    @property
    def code(self) -> grpc.StatusCode:
        return REASONS[self.reason]


def trailers(refusal: Refusal) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries the refusal's details (`google.rpc.Status`)."""
    details = [
        error_details_pb2.ErrorInfo(
            reason=refusal.reason,
            domain=DOMAIN,
            metadata={"found": refusal.found, "allowed": refusal.allowed},
        )
    ]
    status = status_pb2.Status(code=refusal.code.value[0], message=str(refusal))
    for detail in details:
        status.details.add().Pack(detail)
    if refusal.retry_s is not None:
        delay = Duration()
        delay.FromMilliseconds(int(refusal.retry_s * 1000))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return ((DETAILS_KEY, status.SerializeToString()),)


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal | None:
    """The refusal that a status carries; None for a status that no featurewire peer made."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            status = status_pb2.Status.FromString(value)
            return _from_details(status.message, status.details)
    return None


def _from_details(message: str, details: Iterable[AnyMessage]) -> Refusal | None:
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    retry_s = None
    for detail in details:
        if detail.Unpack(retry):
            retry_s = retry.retry_delay.ToMilliseconds() / 1000
        else:
            detail.Unpack(info)
    if info.domain != DOMAIN or info.reason not in REASONS:
        return None
    return Refusal(
        info.reason,
        message,
        found=info.metadata["found"],
        allowed=info.metadata["allowed"],
        retry_s=retry_s,
    )
