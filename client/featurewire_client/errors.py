"""Errors of the client. gRPC's own are mapped here, once.

ClientError
├── AddressError             an address is not HOST:PORT
├── SettingError             a request or a budget asks for what is outside its range
├── ConnectionFailedError    no server answers at any address
├── RefusedError             the server refused, and said why
├── DeadlineError            no answer within the time allowed
└── SessionError             the stream broke, or the server failed
    └── ConnectionLostError  the connection, or the server, is gone: another may take over
"""

import grpc
from featurewire.wire.status import refusal_of

FROM_CORE = "Internal error from Core"


class ClientError(Exception):
    """Any failure between this client and its server."""


class AddressError(ClientError):
    """An address is not HOST:PORT."""


class SettingError(ClientError):
    """A request or a budget asks for what is outside its range, or for what no message holds."""


class ConnectionFailedError(ClientError):
    """No server answers at any of the addresses."""


class DeadlineError(ClientError):
    """No answer came within the time allowed."""


class SessionError(ClientError):
    """The stream broke, or the server failed."""


class ConnectionLostError(SessionError):
    """The connection or the server is gone; what was asked can be asked elsewhere."""


# Reasons that say nothing of the request: another server may have room for it.
NO_ROOM = ("SERVER_FULL", "CACHE_TOO_SMALL")


class RefusedError(ClientError):
    """The server refused.

    Attributes:
        code: canonical gRPC status, such as "FAILED_PRECONDITION".
        reason: why, such as "SPLIT_UNKNOWN" (`featurewire.wire.status.REASONS`).
        found, allowed: what was sent and what would have been taken.
        retry_s: seconds after which the same call may succeed; None when it never will.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        reason: str,
        found: str = "",
        allowed: str = "",
        retry_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.found = found
        self.allowed = allowed
        self.retry_s = retry_s


def client_error(error: grpc.aio.AioRpcError, address: str, connected: bool = False) -> ClientError:
    """The client's own error for a status; `connected`: the server had answered before."""
    refusal = refusal_of(error)
    if refusal is not None and refusal.reason == "SESSION_IDLE":
        return ConnectionLostError(str(refusal))  # a new session can go on
    if refusal is not None:
        again = f"; try again in {refusal.retry_s:g} s" if refusal.retry_s is not None else ""
        return RefusedError(
            f"{refusal}{again}",
            code=refusal.code.name,
            reason=refusal.reason,
            found=refusal.found,
            allowed=refusal.allowed,
            retry_s=refusal.retry_s,
        )
    # not the server's words over a session: gRPC's and proxies', for a stream without a status
    gone = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
    details = error.details() or ""
    # gRPC's own code for a write to a stream that has just been reset, and for a reset that it read
    reset = details == FROM_CORE or "RST_STREAM" in details
    reset = reset and error.code() is grpc.StatusCode.INTERNAL
    if (error.code() in gone or reset) and connected:
        return ConnectionLostError(f"the connection to {address} was lost: {error.details()}")
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return ConnectionFailedError(f"no server answers at {address}: {error.details()}")
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError(f"the server at {address} did not answer in time")
    return SessionError(f"the server at {address} answered {error.code().name}: {error.details()}")
