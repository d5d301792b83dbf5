"""One client that floods the server does not starve another: of what waits, the oldest runs first.

Positions in the order of passes are held, not times.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import grpc
import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.v1 import featurewire_pb2_grpc as rpc
from featurewire_client import SplitClient
from featurewire_server.scheduler import Scheduler
from featurewire_server.session import Session

CHANNELS, FLOODS, ASKED = 32, 3, 12
SPAN = 60  # tokens of one message of the flood, a pass of its own; the other client sends fewer
PASS_S = 0.005  # so that the flood always has jobs that wait


def feature(tokens: int) -> bytes:
    return torch.randn(tokens, CHANNELS).half().numpy().tobytes()


def one_shot(request: int, batch: int = 1) -> list[pb.InferRequest]:
    tensor = pb.CodedTensor(name="hidden", batch=batch, tokens=SPAN, channels=CHANNELS)
    begin = pb.Begin(request=request, tensors=[tensor], outputs=["logits"])
    payload = feature(SPAN)
    chunks = [
        pb.Chunk(request=request, sample=sample, payload=payload, last=sample == batch - 1)
        for sample in range(batch)
    ]
    return [pb.InferRequest(begin=begin), *(pb.InferRequest(chunk=chunk) for chunk in chunks)]


def large_batch(request: int) -> list[pb.InferRequest]:
    return one_shot(request, 100)


def long_prompt(request: int) -> list[pb.InferRequest]:
    """Nearly as long as the context; its one token is drawn, and the next one follows at once."""
    tensor = pb.CodedTensor(name="hidden", batch=1, tokens=SPAN, channels=CHANNELS)
    begin = pb.Begin(request=request, tensors=[tensor], generation=pb.Generation(max_tokens=1))
    chunk = pb.Chunk(request=request, payload=feature(SPAN), tokens=SPAN)
    return [pb.InferRequest(begin=begin), pb.InferRequest(chunk=chunk)]


class Order:
    """How many passes of the flood ran between what the other client sent and its own pass.

    Attributes:
        flood: its passes so far.
        queued: from the arrival of each of the other's jobs in the queue.
        received: from the arrival of its message.
        largest: of all passes' batches.
    """

    def __init__(self, monkeypatch) -> None:
        self.flood = self.largest = 0
        self.queued: list[int] = []
        self.received: list[int] = []
        read: list[int] = []
        join, receive = Scheduler.join, Session.receive

        async def noted_join(scheduler, key, work, item, wait_s=0.0, samples=1):
            features = getattr(item, "features", item)
            batch, tokens, _ = next(iter(features.tensors.values())).shape
            self.largest = max(self.largest, batch)
            is_flood = tokens == SPAN
            arrived = self.flood

            def noted_work(items):
                if is_flood:
                    self.flood += 1
                    time.sleep(PASS_S)
                else:
                    self.queued.append(self.flood - arrived)
                    self.received.append(self.flood - read.pop(0))
                return work(items)

            return await join(scheduler, key, noted_work, item, wait_s, samples)

        async def noted_receive(session, message):
            if message.HasField("chunk") and len(message.chunk.payload) < SPAN * CHANNELS * 2:
                read.append(self.flood)
            return await receive(session, message)

        monkeypatch.setattr(Scheduler, "join", noted_join)
        monkeypatch.setattr(Session, "receive", noted_receive)


@contextlib.asynccontextmanager
async def flooded(address: str, offer: pb.Handshake, message, order: Order) -> AsyncIterator[None]:
    """Sessions that send requests as fast as the server takes them, until the end."""
    ended = asyncio.Event()

    async def requests() -> AsyncIterator[pb.InferRequest]:
        yield pb.InferRequest(handshake=offer)
        number = 0
        while not ended.is_set():
            number += 1
            for one in message(number):
                yield one

    async def flood() -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            call = rpc.SplitInferenceServiceStub(channel).Infer(requests())
            async for _ in call:
                if ended.is_set():
                    call.cancel()
                    return

    floods = asyncio.gather(*(flood() for _ in range(FLOODS)))
    try:
        while order.flood < 2 * FLOODS and not floods.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        yield
    finally:
        ended.set()
        await floods


@pytest.mark.parametrize("message", [one_shot, large_batch, long_prompt])
@pytest.mark.parametrize("wanted", ["one-shot requests", "a generation"])
async def test_single_requests_wait_for_one_job_of_each_session_that_floods(
    llama, serve, offer, monkeypatch, message, wanted
):
    offer.codec = "float16"
    order = Order(monkeypatch)
    ids = torch.tensor([[5, 6, 7]])
    async with (
        serve(llama) as server,
        SplitClient(server.address, str(llama), codec="float16") as client,
        flooded(server.address, offer, message, order),
    ):
        before = order.flood
        if wanted == "one-shot requests":
            for _ in range(ASKED):
                result = await client.infer({"input_ids": ids})
                assert result.output.logits.shape == (1, 3, 97)
        else:
            await generated(client, ids)
        during = order.flood - before
    assert len(order.queued) == ASKED
    assert order.largest <= 16
    # what had come before it, and nothing that came after it
    assert max(order.queued) <= FLOODS
    # reading and decoding make it wait for few more
    assert max(order.received) <= 4 * FLOODS
    assert during > FLOODS  # the flood went on


async def generated(client: SplitClient, ids: torch.Tensor) -> None:
    """Tokens from a prompt of ids: the random model has no tokenizer."""

    class Words:
        end_ids = ()

        def inputs(self, prompt):
            return {"input_ids": ids}

        def decode(self, ids):
            return "x" * len(ids)

    client._processor = Words()
    async for _ in client.generate("", max_tokens=ASKED):
        pass
    assert client.last_stats.tokens == ASKED
