"""What an Ack says: how much has come, when it was read, and whether it may have waited before."""

import asyncio
import time

import grpc
import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.v1 import featurewire_pb2_grpc as rpc
from featurewire_server.session import Session

CHANNELS = 32


def begin(tokens: int, request: int = 1) -> pb.Begin:
    tensor = pb.CodedTensor(name="hidden", batch=1, tokens=tokens, channels=CHANNELS)
    return pb.Begin(request=request, tensors=[tensor], generation=pb.Generation(max_tokens=1))


def chunk(tokens: int, request: int = 1) -> pb.Chunk:
    payload = torch.randn(tokens, CHANNELS).half().numpy().tobytes()
    return pb.Chunk(request=request, payload=payload, tokens=tokens)


@pytest.fixture
async def stream(llama, serve, offer):
    """A session whose hands are shaken."""
    offer.codec = "float16"
    async with serve(llama) as server, grpc.aio.insecure_channel(server.address) as channel:
        call = rpc.SplitInferenceServiceStub(channel).Infer()
        await call.write(pb.InferRequest(handshake=offer))
        assert (await call.read()).HasField("handshake")
        yield call
        call.cancel()


@pytest.fixture
def slow(monkeypatch):
    """Seconds that every Begin, and every chunk, takes the server; to be set."""
    seconds = {"begin": 0.0, "chunk": 0.0}
    work, take = Session._begin, Session._take

    def slow_begin(self, begin):
        time.sleep(seconds["begin"])
        return work(self, begin)

    async def slow_take(self, chunk, request):
        await asyncio.sleep(seconds["chunk"])
        return await take(self, chunk, request)

    monkeypatch.setattr(Session, "_begin", slow_begin)
    monkeypatch.setattr(Session, "_take", slow_take)
    return seconds


@pytest.mark.parametrize("alone", [True, False], ids=["a begin by itself", "a begin with a chunk"])
async def test_it_counts_the_chunks_and_bytes_of_its_request(stream, alone):
    request, first, second = begin(9), chunk(2), chunk(3)
    if alone:
        await stream.write(pb.InferRequest(begin=request))
    await stream.write(pb.InferRequest(begin=None if alone else request, chunk=first))
    await stream.write(pb.InferRequest(chunk=second))
    acks = [(await stream.read()).ack for _ in range(2)]
    size = request.ByteSize() + first.ByteSize()
    assert [(ack.request, ack.chunks, ack.bytes) for ack in acks] == [
        (1, 1, size),
        (1, 2, size + second.ByteSize()),
    ]


async def test_it_says_when_the_message_came_and_not_when_it_was_dealt_with(stream, slow):
    slow["begin"] = 0.3
    before = time.monotonic_ns()
    await stream.write(pb.InferRequest(begin=begin(9), chunk=chunk(2)))
    ack = (await stream.read()).ack
    after = time.monotonic_ns()
    assert before < ack.received_ns < after - 250_000_000


async def test_what_came_behind_a_message_that_took_long_may_have_waited(stream, slow):
    await stream.write(pb.InferRequest(begin=begin(9), chunk=chunk(1)))
    assert not (await stream.read()).ack.late  # nothing was before it
    slow["chunk"] = 0.05
    for _ in range(2):
        await stream.write(pb.InferRequest(chunk=chunk(1)))
    await stream.read()
    assert (await stream.read()).ack.late
    await asyncio.sleep(0.5)
    await stream.write(pb.InferRequest(chunk=chunk(1)))
    assert not (await stream.read()).ack.late  # it was sent long after that was done


async def test_what_came_behind_a_begin_that_took_long_may_have_waited(stream, slow):
    slow["begin"] = 0.05
    await stream.write(pb.InferRequest(begin=begin(9)))
    await stream.write(pb.InferRequest(chunk=chunk(1)))
    assert (await stream.read()).ack.late
