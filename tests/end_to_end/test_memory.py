"""A server's memory is bounded over all sessions, and free again once a request is over."""

import asyncio
import contextlib
import gc
import weakref

import grpc
import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.v1 import featurewire_pb2_grpc as rpc
from featurewire.wire.status import Refusal, refusal_of
from featurewire.wire.tensors import pack
from featurewire_client import SplitClient
from featurewire_server.decoding import Decoding
from featurewire_server.feature_buffer import DECODER_BYTES

CHANNELS, CONTEXT = 32, 64


@pytest.fixture
def decoded(monkeypatch):
    """Weak references to every feature that was decoded, while Python looks for no cycles."""
    seen: list[weakref.ref] = []
    finish = Decoding._finish

    def noted(self, *arguments):
        features = finish(self, *arguments)
        seen.extend(weakref.ref(tensor) for tensor in features.tensors.values())
        return features

    monkeypatch.setattr(Decoding, "_finish", noted)
    gc.collect()
    gc.disable()
    yield seen
    gc.enable()


async def forgotten(decoded) -> bool:
    for _ in range(100):
        if decoded and not any(one() is not None for one in decoded):
            return True
        await asyncio.sleep(0.02)
    return False


def feature(batch: int = 1, tokens: int = 3, **more) -> list[pb.InferRequest]:
    tensor = pb.CodedTensor(name="hidden", batch=batch, tokens=tokens, channels=CHANNELS)
    begin = pb.InferRequest(begin=pb.Begin(request=1, tensors=[tensor], **more))
    sample = torch.randn(tokens, CHANNELS).half().numpy().tobytes()
    chunks = [
        pb.InferRequest(
            chunk=pb.Chunk(request=1, sample=number, payload=sample, last=number == batch - 1)
        )
        for number in range(batch)
    ]
    return [begin, *chunks]


async def ended(call) -> grpc.aio.AioRpcError:
    """How the server ended a stream, once all that came before is read."""
    try:
        while await call.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return error
    pytest.fail("the server refused nothing")


async def refused(address: str, offer: pb.Handshake, *messages: pb.InferRequest) -> Refusal:
    offer.codec = "float16"
    async with grpc.aio.insecure_channel(address) as channel:
        call = rpc.SplitInferenceServiceStub(channel).Infer()
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            for message in (pb.InferRequest(handshake=offer), *messages):
                await call.write(message)
        return refusal_of(await ended(call))


@pytest.mark.parametrize(
    "wrong",
    [{"outputs": ["nothing"]}, {"uncoded": pack({"attention_mask": torch.ones(5, 7)})}],
    ids=["an output that there is not", "a mask that does not fit"],
)
async def test_a_refused_request_leaves_no_feature_behind(llama, serve, offer, decoded, wrong):
    async with serve(llama) as server:
        for _ in range(3):
            refusal = await refused(server.address, offer, *feature(**wrong))
            assert refusal.reason == "INPUT_INVALID"
        assert len(decoded) == 3
        assert await forgotten(decoded)
        assert not server.reserved_cache_bytes


async def test_an_idle_session_keeps_no_feature(llama, serve, decoded):
    async with serve(llama) as server, SplitClient(server.address, str(llama)) as client:
        for tokens in (5, 7):
            await client.infer({"input_ids": torch.ones(1, tokens, dtype=torch.long)})
        assert len(decoded) == 2
        assert await forgotten(decoded)
        assert server.open_sessions == 1


async def test_features_of_all_sessions_share_the_memory_that_is_allowed(llama, serve, offer):
    begin, *chunks = feature(batch=100, tokens=CONTEXT)  # 3.7 MiB with what is coded and put out
    coded = 2 * CONTEXT * CHANNELS
    async with serve(llama, cache_mb=4) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            offer.codec = "float16"
            call = rpc.SplitInferenceServiceStub(channel).Infer()
            await call.write(pb.InferRequest(handshake=offer))
            await call.write(begin)
            await call.write(chunks[0])
            while not (await call.read()).HasField("ack"):
                pass
            assert server.reserved_cache_bytes == 100 * (2 * coded + DECODER_BYTES) + coded
            another = feature(batch=420, tokens=CONTEXT)[0]
            refusal = await refused(server.address, offer, another)
            assert (refusal.reason, refusal.retry_s) == ("SERVER_FULL", 1.0)
            for message in chunks[1:]:
                await call.write(message)
            while not (await call.read()).HasField("account"):
                pass
            assert not server.reserved_cache_bytes
        refusal = await refused(server.address, offer, *feature(batch=600, tokens=CONTEXT)[:1])
        assert refusal.reason == "CACHE_TOO_SMALL"


async def test_what_is_coded_and_put_out_counts_too(llama, serve, offer):
    async with serve(llama, cache_mb=2) as server:
        refusal = await refused(server.address, offer, *feature(batch=100, tokens=CONTEXT))
        assert (refusal.reason, "outputs" in str(refusal)) == ("CACHE_TOO_SMALL", True)
        begin, *chunks = feature(batch=500, tokens=1)
        for message in chunks:
            message.chunk.payload *= 60  # what is allowed beyond the feature for a header
        refusal = await refused(server.address, offer, begin, *chunks)
        assert (refusal.reason, "coded" in str(refusal)) == ("CACHE_TOO_SMALL", True)
        assert not server.reserved_cache_bytes


async def test_a_text_longer_than_the_context_is_refused_before_its_chunks_come(
    llama, serve, offer
):
    async with serve(llama) as server:
        refusal = await refused(server.address, offer, feature(tokens=CONTEXT + 1)[0])
    assert (refusal.reason, refusal.allowed) == ("TOO_LARGE", str(CONTEXT))
