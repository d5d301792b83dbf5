"""What a server says at a stream's end is heard, whatever the client was writing."""

import asyncio
from collections import Counter
from contextlib import suppress

import grpc
import pytest
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.v1 import featurewire_pb2_grpc as rpc
from featurewire.wire.status import Refusal, refusal_of, trailers
from featurewire_client.stream_end import StreamEnd

STREAMS = 300
FULL = Refusal("SERVER_FULL", "no place", retry_s=2.0)


class Refuses(rpc.SplitInferenceServiceServicer):
    async def Infer(self, requests, context):  # noqa: N802 (the name that the .proto gives)
        await anext(requests)
        await context.abort(FULL.code, str(FULL), trailers(FULL))


@pytest.fixture
async def stub():
    server = grpc.aio.server()
    rpc.add_SplitInferenceServiceServicer_to_server(Refuses(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield rpc.SplitInferenceServiceStub(channel)
    await server.stop(None)


async def test_a_refusal_that_meets_a_write_is_heard(stub):
    """gRPC puts its own status in the refusal's place for most of these streams."""
    heard = Counter()
    for _ in range(STREAMS):
        call = stub.Infer()
        end = StreamEnd(call)
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # as a writer is told
            while True:
                await call.write(pb.InferRequest())
        refusal = refusal_of(await end.status())
        heard[refusal.reason, refusal.retry_s] += 1
    assert heard == {("SERVER_FULL", 2.0): STREAMS}


async def test_a_call_that_is_cancelled_here_has_ended(stub):
    call = stub.Infer()
    end = StreamEnd(call)
    call.cancel()
    assert (await end.status()).code() is grpc.StatusCode.CANCELLED
