"""A link that is slow is no server that is silent: what takes long to carry is carried once."""

import asyncio
import signal

import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire_bench.process import ServerProcess
from featurewire_bench.relay import Relay
from featurewire_client import SplitClient, pulse
from featurewire_client.connection import connect
from featurewire_client.link_estimate import LinkEstimate
from featurewire_client.session import Session

SILENT_S = 3.0  # a chunk of 128 KiB takes longer here


@pytest.fixture(autouse=True)
def _soon_silent(monkeypatch):
    """A server is given up sooner than it would be, so that the tests are short."""
    monkeypatch.setattr(pulse, "_QUIET_S", SILENT_S / 2)
    monkeypatch.setattr(pulse, "_ANSWER_S", SILENT_S / 2)


async def test_a_feature_whose_wire_time_is_many_times_what_a_server_may_be_silent_is_sent_once(
    serve, wide
):
    """10 s of it: were it all under way at once, nothing else would come through in that time."""
    inputs = {"input_ids": torch.randint(0, 97, (1, 120)), "logits_to_keep": torch.tensor(1)}
    async with serve(wide) as server:
        with Relay(server.address, rate_mbit=0.2, rtt_ms=20) as link:
            async with SplitClient(link.address, str(wide), "layers.1", codec="float16") as client:
                before = link.up_bytes
                stats = (await client.infer(inputs)).stats
                carried = link.up_bytes - before
    assert stats.replays == 0
    assert 2 * 120 * 1024 < carried < 1.05 * stats.sent_bytes


async def test_an_answer_whose_wire_time_is_many_times_what_a_server_may_be_silent_arrives_once(
    serve, llama
):
    """8 s of it, and pings wait behind it longer than 5 s: what arrives says that all is well."""
    inputs = {"input_ids": torch.randint(0, 97, (16, 64))}
    async with serve(llama) as server:
        with Relay(server.address, rate_mbit=0.4, rtt_ms=20) as link:
            async with SplitClient(link.address, str(llama), "layers.2", snr_db=5) as client:
                before = link.down_bytes
                result = await client.infer(inputs)
                carried = link.down_bytes - before
    size = 4 * result.output.logits.numel()
    assert size == 4 * 16 * 64 * 97
    assert result.stats.replays == 0
    assert size < carried < 1.05 * result.stats.received_bytes


async def test_a_server_that_falls_silent_amid_a_feature_is_given_up(serve, wide):
    """What waits for room on the link hears of it too."""
    inputs = {"input_ids": torch.randint(0, 97, (1, 1500)), "logits_to_keep": torch.tensor(1)}
    settings = {"model": str(wide), "split": "layers.1", "codec": "float16"}
    with ServerProcess([str(wide)]) as silent, Relay(silent.address, rate_mbit=2) as link:
        async with (
            serve(wide) as other,
            SplitClient(f"{link.address},{other.address}", **settings) as client,
        ):
            before = link.up_bytes
            task = asyncio.create_task(client.infer(inputs))
            while link.up_bytes < before + 500_000:
                assert not task.done()
                await asyncio.sleep(0.01)
            silent.kill(signal.SIGSTOP)
            try:
                stats = (await task).stats
            finally:
                silent.kill(signal.SIGCONT)
    assert stats.replays == 1


async def send_in_eight(session: Session, size: int) -> None:
    for number in range(8):
        chunk = pb.Chunk(request=1, payload=bytes(size // 8), last=number == 7)
        await session.send(chunk)


@pytest.mark.parametrize("ends", ["by us", "by the server"])
async def test_a_session_that_ends_takes_nothing_from_the_one_that_took_over(serve, wide, ends):
    """They share what is known of the link, and nothing that they have under way."""
    link, tokens = LinkEstimate(), 100
    async with serve(wide) as old_server, serve(wide) as server:
        with Relay(server.address, rate_mbit=0.4, rtt_ms=20) as slow:
            async with SplitClient(
                server.address, str(wide), "layers.1", codec="float16"
            ) as client:
                offer = client.offer
            connection = await connect(old_server.address, 10)
            taking_over = await connect(slow.address, 10)
            old = await Session.open(connection, offer, link)
            new = await Session.open(taking_over, offer, link)
            tensor = pb.CodedTensor(name="hidden", batch=1, tokens=tokens, channels=1024)
            new.begin(pb.Begin(request=1, tensors=[tensor]))
            size = 2 * tokens * 1024
            sending = asyncio.create_task(send_in_eight(new, size))
            while new.under_way.chunks < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            before = new.under_way.bytes
            if ends == "by us":
                await old.close()
            else:
                await old_server.stop()
            await asyncio.sleep(0.1)
            assert old.ended
            assert new.under_way.bytes > before - size // 4
            await asyncio.wait_for(sending, 60)
            answer = await asyncio.wait_for(new.answer(1), 60)
            assert answer.WhichOneof("message") == "output"
            assert new.under_way.bytes == 0
            await new.close()
            for one in (connection, taking_over):
                await one.channel.close()
