"""A refusal crosses the wire whole, and its reason chooses its code."""

import grpc
from featurewire.wire.status import REASONS, Refusal, refusal_of, trailers


def as_rpc_error(metadata) -> grpc.aio.AioRpcError:
    empty = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNKNOWN, empty, grpc.aio.Metadata(*metadata))


def test_every_reason_comes_back_with_its_values():
    for reason in REASONS:
        sent = Refusal(reason, "both values", found="a", allowed="b", retry_s=1.5)
        received = refusal_of(as_rpc_error(trailers(sent)))
        assert received is not None
        assert (received.reason, str(received), received.found, received.allowed) == (
            reason,
            "both values",
            "a",
            "b",
        )
        assert received.retry_s == 1.5
        assert received.code is REASONS[reason]


def test_a_status_of_another_origin_is_no_refusal():
    assert refusal_of(as_rpc_error([])) is None
    assert refusal_of(as_rpc_error([("grpc-status-details-bin", b"")])) is None
