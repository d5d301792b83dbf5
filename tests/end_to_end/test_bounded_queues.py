"""Where one stage waits, those before it go on for as long as a few queues have room, and stop."""

import asyncio
import threading
from contextlib import aclosing

import grpc
import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.v1 import featurewire_pb2_grpc as rpc
from featurewire.wire import limits
from featurewire.wire.coder import Coder
from featurewire_client import SplitClient, edge
from featurewire_client.edge import Edge
from featurewire_client.head_pass import Seconds
from featurewire_client.session import Session as ClientSession
from featurewire_models import load_head
from featurewire_models.llama import LlamaTail
from featurewire_server.decoding import Decoding
from featurewire_server.session import Session as ServerSession

CHANNELS, REQUESTS = 32, 200


class Counts(dict[str, int]):
    """How often something was called, and whether that goes on."""

    def of(self, monkeypatch, owner, name: str) -> None:
        original, self[name] = getattr(owner, name), 0

        def counted(*arguments, **settings):
            self[name] += 1
            return original(*arguments, **settings)

        monkeypatch.setattr(owner, name, counted)

    async def settled(self) -> "Counts":
        before = None
        while before != dict(self):
            before = dict(self)
            await asyncio.sleep(0.5)
        return self


@pytest.fixture
def counts() -> Counts:
    return Counts()


def held_up(monkeypatch, owner, name: str) -> threading.Event:
    """Has every call wait until the event is set."""
    original, go_on = getattr(owner, name), threading.Event()

    def waiting(*arguments, **settings):
        go_on.wait(60)
        return original(*arguments, **settings)

    monkeypatch.setattr(owner, name, waiting)
    return go_on


@pytest.mark.parametrize(
    ("owner", "name", "most"),
    # the tail's own, two features, eight chunks, and what tasks hold that hand them on
    [(LlamaTail, "__call__", 1 + 2 + 8 + 4), (Decoding, "_decode", 8 + 4)],
    ids=["tail", "decoder"],
)
async def test_a_server_reads_no_further_than_its_queues_have_room(
    llama, serve, offer, monkeypatch, counts, owner, name, most
):
    offer.codec = "float16"
    monkeypatch.setattr("featurewire_server.decoding._INLINE_FEATURES", 0)
    counts.of(monkeypatch, ServerSession, "receive")
    go_on = held_up(monkeypatch, owner, name)
    tensor = pb.CodedTensor(name="hidden", batch=1, tokens=2, channels=CHANNELS)

    async def messages():
        yield pb.InferRequest(handshake=offer)
        for request in range(1, REQUESTS + 1):
            payload = torch.randn(2, CHANNELS).half().numpy().tobytes()
            yield pb.InferRequest(
                begin=pb.Begin(request=request, tensors=[tensor]),
                chunk=pb.Chunk(request=request, payload=payload, last=True),
            )

    async with serve(llama) as server, grpc.aio.insecure_channel(server.address) as channel:
        call = rpc.SplitInferenceServiceStub(channel).Infer(messages())
        try:
            assert 8 < (await counts.settled())["receive"] <= most
        finally:
            go_on.set()
        accounts = [answer.account.request async for answer in call if answer.HasField("account")]
    assert accounts == list(range(1, REQUESTS + 1))


async def test_a_client_sends_no_further_than_acks_allow(llama, serve, monkeypatch, counts):
    receive, go_on = ServerSession.receive, asyncio.Event()

    async def late(self, message):
        await go_on.wait()
        return await receive(self, message)

    monkeypatch.setattr(ServerSession, "receive", late)
    counts.of(monkeypatch, ClientSession, "_write")
    ids = torch.ones(2 * limits.MAX_CHUNKS_IN_FLIGHT, 2, dtype=torch.int64)
    async with serve(llama) as server, SplitClient(server.address, str(llama)) as client:
        counts["_write"] = 0
        asked = asyncio.create_task(client.infer({"input_ids": ids}))
        assert (await counts.settled())["_write"] == limits.MAX_CHUNKS_IN_FLIGHT
        go_on.set()
        assert (await asked).output.logits.shape == (len(ids), 2, 97)


async def test_head_and_encoder_run_no_further_ahead_than_a_few_spans(wide, monkeypatch, counts):
    counts.of(monkeypatch, edge, "HeadPass")
    counts.of(monkeypatch, edge, "code_span")
    monkeypatch.setattr(edge, "span_tokens", lambda tokens: 64)
    made = Edge(load_head(wide, "layers.0"), Coder("float16", {}))
    spans = made.spans(torch.ones(1, 2000).long(), made.head.new_cache(), 25.0, Seconds())
    try:
        async with aclosing(spans):
            await anext(spans)
            found = await counts.settled()
            # given out, next, two in the queue, one that waits for it; of heads two more
            assert found["code_span"] <= 5 + made.encoders
            assert found["HeadPass"] <= found["code_span"] + 3
            assert len([span async for span in spans]) == 31
    finally:
        made.close()


async def test_the_chunks_of_a_feature_are_cut_no_further_ahead_than_a_few(
    wide, monkeypatch, counts
):
    counts.of(monkeypatch, edge, "next_chunk")
    made = Edge(load_head(wide, "layers.0"), Coder("float16", {}))
    try:
        features = await made.features({"input_ids": torch.ones(1, 300).long()}, Seconds())
        chunks = made.chunks(features, 25.0, Seconds(), [10_000])
        async with aclosing(chunks):
            await anext(chunks)
            assert (await counts.settled())["next_chunk"] <= 5
            assert len([chunk async for chunk in chunks]) > 50
    finally:
        made.close()
