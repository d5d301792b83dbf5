"""What a session's state does not take ends it with a reason, and leaves nothing behind."""

import asyncio
import logging
import time

import grpc
import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.v1 import featurewire_pb2_grpc as rpc
from featurewire.wire import limits
from featurewire.wire.status import Refusal, refusal_of
from featurewire.wire.tensors import pack
from featurewire_bench.relay import Relay
from featurewire_client import RefusedError, SplitClient
from featurewire_models import describe
from featurewire_models.llama import LlamaTail
from featurewire_server import answers as server_answers

CHANNELS, CONTEXT = 32, 64


@pytest.fixture
def offer(offer) -> pb.Handshake:
    offer.codec = "float16"
    return offer


def begin(tokens: int = 3, request: int = 1, **settings) -> pb.InferRequest:
    tensor = pb.CodedTensor(name="hidden", batch=1, tokens=tokens, channels=CHANNELS)
    generation = pb.Generation(**{"max_tokens": 8, **settings})
    return pb.InferRequest(begin=pb.Begin(request=request, tensors=[tensor], generation=generation))


def chunk(tokens: int, request: int = 1, announced: int | None = None) -> pb.InferRequest:
    features = torch.randn(tokens, CHANNELS).half().numpy().tobytes()
    counted = tokens if announced is None else announced
    return pb.InferRequest(chunk=pb.Chunk(request=request, payload=features, tokens=counted))


def together(begins: pb.InferRequest, first: pb.InferRequest) -> pb.InferRequest:
    return pb.InferRequest(begin=begins.begin, chunk=first.chunk)


async def talk(address: str, *messages: pb.InferRequest) -> list[pb.InferResponse]:
    async with grpc.aio.insecure_channel(address) as channel:
        call = rpc.SplitInferenceServiceStub(channel).Infer(iter(messages))
        try:
            return [response async for response in call]
        except grpc.aio.AioRpcError as error:
            raise refusal_of(error) or error from error


async def settled(server) -> bool:
    """Whether the server has forgotten every session soon."""
    for _ in range(100):
        if not server.open_sessions and not server.reserved_cache_bytes:
            return True
        await asyncio.sleep(0.02)
    return False


async def test_a_generation_by_hand(llama, serve, offer):
    async with serve(llama) as server:
        shake = pb.InferRequest(handshake=offer)
        kinds = [
            parts_of(response)
            for response in await talk(
                server.address,
                shake,
                begin(5, max_tokens=3),
                chunk(2),
                chunk(3),
                chunk(1),
                chunk(1),
                begin(2, request=2, max_tokens=1),
                chunk(2, request=2),
            )
        ]
    expected = ["handshake", "ack", "token", "token", "token account", "token account"]
    assert sorted(kinds) == sorted(expected)
    assert kinds[-1] == "token account"


BAD = {
    "beyond the prompt": ([begin(3), chunk(4)], "TOO_LARGE"),
    "two tokens after it": ([begin(3), chunk(3), chunk(2)], "TOO_LARGE"),
    "fewer bytes than its tokens": ([begin(3), chunk(1, announced=3)], "TENSOR_MALFORMED"),
    "of another request": ([begin(3), chunk(3, request=2)], "MESSAGE_OUT_OF_ORDER"),
    "after the last token": ([begin(3, max_tokens=1), chunk(3), chunk(1)], "MESSAGE_OUT_OF_ORDER"),
    "without a begin": ([chunk(3)], "MESSAGE_OUT_OF_ORDER"),
    "a prompt that is refused with its first chunk": (
        [together(begin(CONTEXT + 1), chunk(2))],
        "TOO_LARGE",
    ),
    "a prompt longer than the context": ([begin(CONTEXT + 1)], "TOO_LARGE"),
    "more delivered than there is room": ([begin(3, delivered=[1] * 70)], "TOO_LARGE"),
    "too many stop strings": ([begin(3, stop=["x"] * 17)], "TOO_LARGE"),
    "too long stop strings": ([begin(3, stop=["x" * 1025])], "TOO_LARGE"),
    "a temperature that is none": (
        [begin(3, sampling=pb.Sampling(temperature=float("nan"))), chunk(3)],
        "INPUT_INVALID",
    ),
    "a probability that is none": ([begin(3, sampling=pb.Sampling(top_p=1.5))], "INPUT_INVALID"),
    "a delivered token that is none": ([begin(3, delivered=[97]), chunk(3)], "INPUT_INVALID"),
    "of a sample that is not there": (
        [begin(3), pb.InferRequest(chunk=pb.Chunk(request=1, sample=1, tokens=1))],
        "MESSAGE_OUT_OF_ORDER",
    ),
    "an empty chunk": (
        [begin(3), pb.InferRequest(chunk=pb.Chunk(request=1))],
        "BITSTREAM_INVALID",
    ),
    "two sequences": (
        [
            pb.InferRequest(
                begin=pb.Begin(
                    tensors=[pb.CodedTensor(name="hidden", batch=2, tokens=3, channels=CHANNELS)],
                    generation=pb.Generation(),
                )
            )
        ],
        "TOO_LARGE",
    ),
    "of another width": (
        [
            pb.InferRequest(
                begin=pb.Begin(
                    request=1,
                    tensors=[pb.CodedTensor(name="hidden", batch=1, tokens=1, channels=8)],
                    generation=pb.Generation(),
                )
            ),
            pb.InferRequest(chunk=pb.Chunk(request=1, payload=bytes(16), tokens=1)),
        ],
        "INPUT_INVALID",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_a_generation_does_not_take_is_refused_and_frees_its_cache(
    llama, serve, offer, name
):
    messages, reason = BAD[name]
    async with serve(llama) as server:
        with pytest.raises(Refusal) as caught:
            await talk(server.address, pb.InferRequest(handshake=offer), *messages)
        assert caught.value.reason == reason
        assert await settled(server)
        async with SplitClient(server.address, str(llama)) as client:
            assert (await client.infer({"input_ids": torch.tensor([[5, 6]])})).output.logits.numel()


def spans(tokens: int = 5, request: int = 1, **settings) -> pb.InferRequest:
    tensor = pb.CodedTensor(name="hidden", batch=1, tokens=tokens, channels=CHANNELS)
    announced = {"tensors": [tensor], "spans": True, **settings}
    return pb.InferRequest(begin=pb.Begin(request=request, **announced))


def parts_of(answer: pb.InferResponse) -> str:
    return " ".join(field.name for field, _ in answer.ListFields())


def wide(batch: int, count: int) -> list[pb.CodedTensor]:
    names = ("hidden", "other")[:count]
    return [pb.CodedTensor(name=n, batch=batch, tokens=3, channels=CHANNELS) for n in names]


async def test_features_in_spans_by_hand_one_before_the_other_is_answered(llama, serve, offer):
    async with serve(llama) as server:
        answers = await talk(
            server.address,
            pb.InferRequest(handshake=offer),
            spans(5),
            chunk(2),
            chunk(3),
            spans(4, request=2, uncoded=pack({"logits_to_keep": torch.tensor(1)})),
            chunk(4, request=2),
            together(begin(2, request=3, max_tokens=1), chunk(2, request=3)),
        )
        assert await settled(server)
    assert sorted(map(parts_of, answers)) == sorted(
        ["handshake", *["ack"] * 3, *["output account"] * 2, "token account"]
    )
    shapes = [list(a.output.shape) for a in answers if a.HasField("output")]
    assert shapes == [[1, 5, 97], [1, 1, 97]]
    accounts = [a.account for a in answers if a.HasField("account")]
    assert [account.features for account in accounts] == [n * CHANNELS for n in (5, 4, 2)]


async def test_a_begin_with_its_chunk_gives_a_text_up_amid_its_prompt_and_amid_its_steps(
    llama, serve, offer
):
    async with serve(llama) as server:
        answers = await talk(
            server.address,
            pb.InferRequest(handshake=offer),
            together(begin(5), chunk(2)),
            together(begin(3, request=2), chunk(3, request=2)),
            together(begin(2, request=3, max_tokens=1), chunk(2, request=3)),
        )
        assert await settled(server)
    assert parts_of(answers[-1]) == "token account"
    assert (answers[-1].token.request, answers[-1].account.request) == (3, 3)
    assert [a.account.request for a in answers if a.HasField("account")] == [3]


async def test_the_account_comes_with_the_last_piece_of_the_outputs(llama, serve, offer):
    tokens = 60  # 97 logits each, in float32
    tensor = pb.CodedTensor(name="hidden", batch=8, tokens=tokens, channels=CHANNELS)
    features = torch.randn(tokens, CHANNELS).half().numpy().tobytes()
    chunks = [pb.Chunk(request=1, sample=i, payload=features, last=i == 7) for i in range(8)]
    announced = pb.Begin(request=1, tensors=[tensor])
    async with serve(llama) as server:
        answers = await talk(
            server.address,
            pb.InferRequest(handshake=offer),
            pb.InferRequest(begin=announced, chunk=chunks[0]),
            *[pb.InferRequest(chunk=one) for one in chunks[1:]],
        )
    outputs = [parts_of(answer) for answer in answers if answer.HasField("output")]
    assert outputs == ["output", "output", "output account"]
    assert sum(len(answer.output.payload) for answer in answers) == 8 * tokens * 97 * 4
    sent = announced.ByteSize() + sum(one.ByteSize() for one in chunks)
    assert answers[-1].account.received_bytes == sent


@pytest.mark.parametrize("first", ["a begin beside its handshake", "a begin", "nothing"])
async def test_a_session_begins_with_a_handshake_alone(llama, serve, offer, first):
    message = {
        "a begin beside its handshake": pb.InferRequest(handshake=offer, begin=begin().begin),
        "a begin": together(begin(), chunk(3)),
        "nothing": pb.InferRequest(),
    }[first]
    found = "nameless" if first == "nothing" else "begin"
    async with serve(llama) as server:
        with pytest.raises(Refusal, match=f"a {found} message came") as caught:
            await talk(server.address, message, chunk(3))
        assert caught.value.reason == "MESSAGE_OUT_OF_ORDER"
        assert await settled(server)


BAD_SPANS = {
    "beyond what was announced": ([spans(3), chunk(4)], "TOO_LARGE"),
    "after the last one": ([spans(3), chunk(3), chunk(1)], "MESSAGE_OUT_OF_ORDER"),
    "a begin amid it": ([spans(3), chunk(2), spans(3, request=2)], "MESSAGE_OUT_OF_ORDER"),
    "a begin amid it, with a chunk that would go on": (
        [spans(3), chunk(2), together(spans(3, request=2), chunk(1))],
        "MESSAGE_OUT_OF_ORDER",
    ),
    "a begin with the chunk of another request": (
        [together(spans(3), chunk(3, request=2))],
        "MESSAGE_OUT_OF_ORDER",
    ),
    "a begin with a handshake": (
        [pb.InferRequest(begin=spans(3).begin, handshake=pb.Handshake())],
        "MESSAGE_OUT_OF_ORDER",
    ),
    "longer than the context": ([spans(CONTEXT + 1)], "TOO_LARGE"),
    "of a batch": ([spans(tensors=wide(2, 1))], "TOO_LARGE"),
    "of two tensors": ([spans(tensors=wide(1, 2))], "TOO_LARGE"),
    "with what is of a whole feature": (
        [spans(3, uncoded=pack({"labels": torch.ones(1, 3, dtype=torch.int64)})), chunk(3)],
        "INPUT_INVALID",
    ),
    "more logits than tokens": (
        [spans(3, uncoded=pack({"logits_to_keep": torch.tensor(4)})), chunk(3)],
        "INPUT_INVALID",
    ),
    "outputs that are none": ([spans(3, outputs=["mask"]), chunk(3)], "INPUT_INVALID"),
    "fewer bytes than its tokens": ([spans(3), chunk(1, announced=3)], "TENSOR_MALFORMED"),
}


@pytest.mark.parametrize("name", BAD_SPANS)
async def test_what_a_feature_in_spans_does_not_take_is_refused_and_frees_its_cache(
    llama, serve, offer, name
):
    messages, reason = BAD_SPANS[name]
    async with serve(llama) as server:
        with pytest.raises(Refusal) as caught:
            await talk(server.address, pb.InferRequest(handshake=offer), *messages)
        assert caught.value.reason == reason
        assert await settled(server)


async def test_a_model_that_is_not_causal_takes_no_spans(serve):
    info = describe("tiny-dinov2")
    offer = pb.Handshake(
        protocol_min=limits.PROTOCOL_MIN,
        protocol_max=limits.PROTOCOL_MAX,
        model=info.name,
        revision=info.revision,
        codec="float16",
    )
    async with serve("tiny-dinov2") as server:
        with pytest.raises(Refusal) as caught:
            await talk(server.address, pb.InferRequest(handshake=offer), spans(3))
        assert caught.value.reason == "INPUT_INVALID"
        assert "has no cache" in str(caught.value)
        assert await settled(server)


async def test_what_fails_in_company_fails_alone(llama, serve, offer, monkeypatch):
    """One sequence's features are no numbers: those that share its passes go on."""
    torch.manual_seed(1)
    companions = []
    run_steps = server_answers.run_steps

    def together(steps, terms):
        companions.append(len(steps))
        time.sleep(0.02)  # so that steps of several sessions wait for the same pass
        return run_steps(steps, terms)

    monkeypatch.setattr(server_answers, "run_steps", together)
    drawn = {"sampling": pb.Sampling(temperature=1.0), "max_tokens": 30}
    good = [chunk(3), *[chunk(1) for _ in range(29)]]
    poison = torch.full((1, CHANNELS), torch.nan).half().numpy().tobytes()
    bad = [*good[:10], pb.InferRequest(chunk=pb.Chunk(request=1, payload=poison, tokens=1))]
    async with serve(llama) as server:
        shake = pb.InferRequest(handshake=offer)
        talks = [
            talk(server.address, shake, begin(3, **drawn), *messages)
            for messages in (good, good, bad, good)
        ]
        answers = await asyncio.gather(*talks, return_exceptions=True)
    assert max(companions) > 2
    assert isinstance(answers[2], Refusal)
    for number in (0, 1, 3):
        assert [a.WhichOneof("message") for a in answers[number]].count("token") == 30


async def test_a_text_that_is_over_has_one_line_in_the_log(llama, serve, offer, caplog):
    caplog.set_level(logging.INFO)
    settings = {"max_tokens": 2, "delivered": [1, 2]}
    messages = [begin(3, **settings), chunk(3), chunk(1), chunk(1)]
    async with serve(llama) as server:
        with pytest.raises(Refusal, match="chunk"):
            await talk(server.address, pb.InferRequest(handshake=offer), *messages)
    assert [line.split()[0] for line in caplog.messages].count("request") == 1


async def test_a_part_that_ends_amid_a_row_of_patches_is_refused(llama, serve, offer):
    tensor = pb.CodedTensor(
        name="hidden", batch=1, tokens=5, channels=CHANNELS, grid_rows=2, grid_columns=2
    )
    announced = pb.InferRequest(begin=pb.Begin(request=1, tensors=[tensor], parts=True))
    async with serve(llama) as server:
        with pytest.raises(Refusal, match="no whole rows of 2 x 2 patches") as caught:
            await talk(server.address, pb.InferRequest(handshake=offer), announced, chunk(2))
    assert caught.value.reason == "TENSOR_MALFORMED"


async def test_a_damaged_part_is_refused_before_the_others_come(llama, serve, offer):
    offer.codec = "featurewire"
    tensor = pb.CodedTensor(name="hidden", batch=1, tokens=5, channels=CHANNELS)
    announced = pb.InferRequest(begin=pb.Begin(request=1, tensors=[tensor], parts=True))
    async with serve(llama) as server:
        with pytest.raises(Refusal) as caught:
            await talk(server.address, pb.InferRequest(handshake=offer), announced, chunk(2))
    assert caught.value.reason == "BITSTREAM_INVALID"


async def test_a_begin_amid_a_generation_gives_it_up(llama, serve, offer):
    async with serve(llama) as server:
        await talk(
            server.address,
            pb.InferRequest(handshake=offer),
            *(message for request in range(1, 50) for message in (begin(3, request=request),)),
            begin(2, request=50, max_tokens=1),
            chunk(2, request=50),
        )
        assert await settled(server)


async def test_what_is_given_up_is_not_computed_any_more(llama, serve, offer, monkeypatch):
    passes: list[int] = []
    steps = LlamaTail.steps

    def slow(self, features, caches):
        passes.append(len(features))
        time.sleep(0.02)
        return steps(self, features, caches)

    monkeypatch.setattr(LlamaTail, "steps", slow)
    texts = [(begin(9, request=number), chunk(9, request=number)) for number in range(1, 51)]
    async with serve(llama) as server:
        messages = [pb.InferRequest(handshake=offer), *(one for text in texts for one in text)]
        *_, last = await talk(server.address, *messages)
    assert last.token.request == 50
    assert len(passes) < 25


async def test_spans_of_a_prompt_that_is_given_up_are_not_the_next_ones(
    llama, serve, offer, monkeypatch
):
    seen, steps = [], LlamaTail.steps

    def noted(self, features, caches):
        seen.extend(feature.tensors["hidden"].shape[1] for feature in features)
        return steps(self, features, caches)

    monkeypatch.setattr(LlamaTail, "steps", noted)
    shake, again = pb.InferRequest(handshake=offer), {"request": 2}
    given_up, begun = [begin(9), chunk(2), chunk(3)], [begin(5, max_tokens=1, **again)]
    async with serve(llama) as server:
        spans = [chunk(2, **again), chunk(3, **again)]
        answers = await talk(server.address, shake, *given_up, *begun, *spans)
    assert parts_of(answers[-1]) == "token account"
    assert seen == [5]


async def test_a_session_that_waits_for_its_answer_is_not_idle(llama, serve, monkeypatch):
    run = server_answers.run_together

    def slow(features, tail):
        time.sleep(1.0)
        return run(features, tail)

    monkeypatch.setattr(server_answers, "run_together", slow)
    async with (
        serve(llama, idle_s=0.3) as server,
        SplitClient(server.address, str(llama)) as client,
    ):
        assert (await client.infer({"input_ids": torch.tensor([[5, 6]])})).stats.replays == 0


async def test_a_stream_that_never_shakes_hands_holds_its_place_for_a_short_time(
    llama, serve, monkeypatch
):
    monkeypatch.setattr(limits, "HANDSHAKE_S", 0.5)

    async def nothing():
        await asyncio.sleep(60)
        yield pb.InferRequest()

    async with (
        serve(llama, max_sessions=1) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = rpc.SplitInferenceServiceStub(channel).Infer(nothing())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(call.read(), 20)
        assert refusal_of(caught.value).reason == "SESSION_IDLE"
        assert "handshake did not come for 0.5 s" in caught.value.details()
        async with SplitClient(server.address, str(llama)) as client:
            assert (await client.infer({"input_ids": torch.tensor([[5, 6]])})).output.logits.numel()


def large_answers() -> list[pb.InferRequest]:
    """Messages to a server of tiny-llama3 whose answers are 3.3 MB each."""
    info = describe("tiny-llama3")
    offer = pb.Handshake(
        protocol_min=limits.PROTOCOL_MIN,
        protocol_max=limits.PROTOCOL_MAX,
        model=info.name,
        revision=info.revision,
        split="layers.4",
        codec="float16",
    )
    tensor = pb.CodedTensor(name="hidden", batch=1, tokens=400, channels=128)
    payload = torch.randn(400, 128).half().numpy().tobytes()
    messages = [pb.InferRequest(handshake=offer)]
    for request in range(1, 40):
        messages.append(pb.InferRequest(begin=pb.Begin(request=request, tensors=[tensor])))
        messages.append(
            pb.InferRequest(chunk=pb.Chunk(request=request, payload=payload, last=True))
        )
    return messages


async def test_a_client_that_never_reads_is_not_waited_for_for_ever(serve):
    async with (
        serve("tiny-llama3", idle_s=1.0) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = rpc.SplitInferenceServiceStub(channel).Infer(iter(large_answers()))
        for _ in range(100):
            await asyncio.sleep(0.1)
            if server.open_sessions:
                break
        assert server.open_sessions == 1
        for _ in range(300):
            await asyncio.sleep(0.1)
            if not server.open_sessions:
                break
        assert server.open_sessions == 0
        call.cancel()


# the kernel resets the connections of a process that is killed, as the relay does
@pytest.mark.parametrize("how", ["its connection breaks", "it closes its channel", "it cancels"])
async def test_a_client_that_vanishes_amid_an_answer_is_cancelled_and_no_fault(serve, caplog, how):
    caplog.set_level(logging.INFO)
    async with serve("tiny-llama3") as server, Relay(server.address, rate_mbit=50) as link:
        channel = grpc.aio.insecure_channel(link.address)
        call = rpc.SplitInferenceServiceStub(channel).Infer(iter(large_answers()))
        for _ in range(1000):
            if link.down_bytes > 500_000:
                break
            await asyncio.sleep(0.01)
        peer = next(iter(server._service._streams)).peer
        if how == "its connection breaks":
            link.disconnect()
        elif how == "it cancels":
            call.cancel()
        await channel.close()
        assert await settled(server)
        total, value = "featurewire_server_errors_total", server._registry.get_sample_value
        counted = {code: value(total, {"code": code}) for code in ("CANCELLED", "INTERNAL")}
    assert counted == {"CANCELLED": 1, "INTERNAL": None}
    assert [line for line in caplog.messages if line.startswith("cancelled")] == [
        f"cancelled peer={peer} amid a request"
    ]
    assert not [r for r in caplog.records if r.exc_info or r.levelno > logging.INFO]


async def test_a_client_that_ends_its_session_between_requests_is_no_error(llama, serve):
    ids = {"input_ids": torch.tensor([[5, 6]])}
    async with serve(llama) as server:
        for _ in range(20):
            async with SplitClient(server.address, str(llama)) as client:
                await client.infer(ids)
        assert await settled(server)
        cancelled = {"code": "CANCELLED"}
        total = "featurewire_server_errors_total"
        assert server._registry.get_sample_value(total, cancelled) is None


IDS = {"input_ids": torch.tensor([[5, 6]])}


async def test_a_session_that_nobody_uses_gives_its_place_to_one_that_asks(
    llama, serve, offer, monkeypatch
):
    async def handshake_alone():
        yield pb.InferRequest(handshake=offer)
        await asyncio.sleep(60)

    async with (
        serve(llama, max_sessions=1) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call = rpc.SplitInferenceServiceStub(channel).Infer(handshake_alone())
        assert (await call.read()).HasField("handshake")
        with pytest.raises(RefusedError, match="no place for another session"):
            await SplitClient(server.address, str(llama)).__aenter__()  # it shook hands just now
        monkeypatch.setattr(limits, "KEPT_S", 0.2)
        await asyncio.sleep(0.3)
        async with SplitClient(server.address, str(llama)) as client:
            assert (await client.infer(IDS)).output.logits.numel()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(call.read(), 20)
            assert server.open_sessions == 1
    assert refusal_of(caught.value).reason == "SESSION_IDLE"
    assert "another needs its place" in caught.value.details()


async def test_clients_that_take_turns_at_a_place_do_not_notice(llama, serve, monkeypatch):
    monkeypatch.setattr(limits, "KEPT_S", 0.1)
    async with (
        serve(llama, max_sessions=1) as server,
        SplitClient(server.address, str(llama)) as first,
    ):
        expected = (await first.infer(IDS)).output.logits
        await asyncio.sleep(0.2)
        async with SplitClient(server.address, str(llama)) as second:
            for client in (second, first, second, first):
                assert torch.equal((await client.infer(IDS)).output.logits, expected)
                assert client.last_stats.replays == 0
                await asyncio.sleep(0.2)


async def test_the_place_of_the_session_unused_the_longest_goes_first(llama, serve, monkeypatch):
    async with (
        serve(llama, max_sessions=2) as server,
        SplitClient(server.address, str(llama)) as first,
        SplitClient(server.address, str(llama)) as second,
    ):
        await first.infer(IDS)  # the second one is the one that was used less lately
        monkeypatch.setattr(limits, "KEPT_S", 0.2)
        await asyncio.sleep(0.3)
        async with SplitClient(server.address, str(llama)) as third:
            assert (await third.infer(IDS)).output.logits.numel()
            assert not first._sessions.current.ended
            for _ in range(100):
                if second._sessions.current.ended:
                    break
                await asyncio.sleep(0.02)
            assert second._sessions.current.ended


async def test_a_session_amid_a_request_keeps_its_place(llama, serve, offer, monkeypatch):
    """A text that its reader has suspended, and a prompt that has not come whole."""
    monkeypatch.setattr(limits, "KEPT_S", 0.1)

    async def a_part():
        for message in (pb.InferRequest(handshake=offer), begin(3), chunk(2)):
            yield message
        await asyncio.sleep(60)

    async with (
        serve("tiny-llama3", llama, max_sessions=2) as server,
        SplitClient(server.address, "tiny-llama3") as client,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        pieces = client.generate("Return the", max_tokens=5)
        await anext(pieces)
        call = rpc.SplitInferenceServiceStub(channel).Infer(a_part())
        assert (await call.read()).HasField("handshake")
        assert (await call.read()).HasField("ack")
        await asyncio.sleep(0.3)
        with pytest.raises(RefusedError, match="no place for another session: 2 open, 2 allowed"):
            await SplitClient(server.address, str(llama)).__aenter__()
        assert [piece async for piece in pieces]
        assert client.last_stats.replays == 0
        call.cancel()
