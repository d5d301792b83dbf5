"""Refusals that several parts of a session make."""

from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire import limits
from featurewire.wire.status import Refusal

_RETRY_S = 1.0


def out_of_order(found: str, expected: str) -> Refusal:
    """A message came at the wrong time."""
    message = f"{found} came where {expected} was expected"
    return Refusal("MESSAGE_OUT_OF_ORDER", message, found=found, allowed=expected)


def server_full(message: str, found: str = "", allowed: str = "") -> Refusal:
    """There is no room now; there may be soon."""
    return Refusal("SERVER_FULL", message, found=found, allowed=allowed, retry_s=_RETRY_S)


def check_chunk(chunk: pb.Chunk, request: int, payload_bytes: int) -> None:
    """Refuses a chunk of another request than the one under way, or over the limit."""
    if chunk.request != request:
        raise out_of_order(f"a chunk of request {chunk.request}", str(request))
    if payload_bytes > limits.MAX_CHUNK_BYTES:
        raise too_large("a chunk's bytes", payload_bytes, limits.MAX_CHUNK_BYTES)


def too_large(what: str, found: int, allowed: int) -> Refusal:
    """A count is beyond its limit."""
    message = f"{what} are {found}; between 1 and {allowed} are allowed"
    return Refusal("TOO_LARGE", message, found=str(found), allowed=str(allowed))
