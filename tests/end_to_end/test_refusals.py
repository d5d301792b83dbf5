"""Each mismatch is refused with both values, each bad message with its reason; others go on."""

from collections.abc import Callable

import grpc
import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.v1 import featurewire_pb2_grpc as rpc
from featurewire.wire import limits
from featurewire.wire.status import Refusal, refusal_of
from featurewire_client import ConnectionFailedError, RefusedError, SettingError, SplitClient
from featurewire_codec import FeatureCodec
from featurewire_models import describe

IDS = {"input_ids": torch.tensor([[5, 6, 7]])}
FEATURE = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
CODEC = FeatureCodec(framing="session")


def feature_messages(data: bytes, tokens: int = 3, name: str = "hidden") -> list[pb.InferRequest]:
    tensor = pb.CodedTensor(name=name, batch=1, tokens=tokens, channels=32)
    begin = pb.Begin(request=1, tensors=[tensor])
    chunk = pb.Chunk(request=1, payload=data, last=True)
    return [pb.InferRequest(begin=begin), pb.InferRequest(chunk=chunk)]


async def talk(address: str, messages: list[pb.InferRequest]) -> list[pb.InferResponse]:
    """Everything that the server answers to the messages; raises the Refusal where it refuses."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = rpc.SplitInferenceServiceStub(channel).Infer(iter(messages))
        try:
            return [response async for response in call]
        except grpc.aio.AioRpcError as error:
            refusal = refusal_of(error)
            raise refusal or error from error


async def still_serves(address: str, model) -> bool:
    async with SplitClient(address, str(model)) as client:
        return (await client.infer(IDS)).output.logits.shape == (1, 3, 97)


@pytest.mark.parametrize(
    ("change", "reason", "found", "allowed"),
    [
        ({"protocol_min": 8, "protocol_max": 9}, "PROTOCOL_MISMATCH", "8 to 9", "6 to 6"),
        ({"protocol_min": 1, "protocol_max": 1}, "PROTOCOL_MISMATCH", "1 to 1", "6 to 6"),
        ({"model": "other"}, "MODEL_UNKNOWN", "other", "random-llama"),
        ({"revision": "abc"}, "REVISION_MISMATCH", "abc", None),
        ({"split": "layers.5"}, "SPLIT_UNKNOWN", "layers.5", "layers.0 to layers.4"),
        ({"task": "depth"}, "TASK_UNKNOWN", "depth", "generation"),
        ({"codec": "jpeg"}, "CODEC_UNKNOWN", "jpeg", "featurewire, dt-ufc, float16, float32"),
        ({"profiles": "ab" * 32}, "PROFILE_MISMATCH", "ab" * 32, "none"),
        ({"dtype": "bfloat16"}, "DTYPE_MISMATCH", "bfloat16", "float32"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isupper() else "",
)
async def test_a_mismatch_is_refused_at_the_handshake_with_both_values(
    llama, serve, offer, change, reason, found, allowed
):
    for field, value in change.items():
        setattr(offer, field, value)
    async with serve(llama) as server:
        with pytest.raises(Refusal) as caught:
            await talk(server.address, [pb.InferRequest(handshake=offer)])
        refusal = caught.value
        assert refusal.reason == reason
        assert refusal.found == found
        assert refusal.allowed == (allowed or describe(llama).revision)
        assert found in str(refusal)
        assert refusal.allowed in str(refusal)
        assert await still_serves(server.address, llama)


async def test_the_handshakes_reply_says_what_was_chosen_and_the_limits(llama, serve, offer):
    offer.split = ""
    async with serve(llama) as server:
        (response,) = await talk(server.address, [pb.InferRequest(handshake=offer)])
    reply = response.handshake
    assert reply.split == describe(llama).default_split
    assert (reply.task, reply.codec, reply.dtype) == ("generation", "featurewire", "float32")
    assert reply.limits.max_chunk_bytes > 0
    assert reply.limits.max_chunks_in_flight > 0


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda data: data[: len(data) // 2],
    "altered": lambda data: data[:20] + bytes([data[20] ^ 1]) + data[21:],
    "with bytes left over": lambda data: data + b"\0",
    "empty": lambda data: b"",
    "none at all": lambda data: b"\xff" * 50,
    "of another shape": lambda data: CODEC.encode(FEATURE[:2]),
    "with a header of its own": lambda data: FeatureCodec().encode(FEATURE),
    "of a giant shape": lambda data: CODEC.encode(torch.zeros(1 << 12, 1 << 10)),
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_bitstream_is_refused_and_the_server_goes_on(llama, serve, offer, damage):
    data = DAMAGE[damage](CODEC.encode(FEATURE))
    messages = [pb.InferRequest(handshake=offer), *feature_messages(data)]
    async with serve(llama) as server:
        with pytest.raises(Refusal) as caught:
            await talk(server.address, messages)
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.reason == "BITSTREAM_INVALID"
        assert await still_serves(server.address, llama)


async def test_the_same_bitstream_undamaged_is_served(llama, serve, offer):
    messages = feature_messages(CODEC.encode(FEATURE))
    async with serve(llama) as server:
        answers = await talk(server.address, [pb.InferRequest(handshake=offer), *messages])
    kinds = [[field.name for field, _ in answer.ListFields()] for answer in answers]
    assert kinds == [["handshake"], ["ack"], ["output", "account"]]


async def test_a_feature_that_the_tail_does_not_take_is_refused(llama, serve, offer):
    data = CODEC.encode(FEATURE)
    messages = feature_messages(data, name="latents")
    async with serve(llama) as server:
        with pytest.raises(Refusal, match="latents") as caught:
            await talk(server.address, [pb.InferRequest(handshake=offer), *messages])
        assert caught.value.reason == "INPUT_INVALID"
        assert await still_serves(server.address, llama)


async def test_more_uncoded_than_the_server_takes_is_not_sent(llama, serve, monkeypatch):
    monkeypatch.setattr(limits, "MAX_UNCODED_BYTES", 100)
    texts = {length: torch.ones(1, length, dtype=torch.int64) for length in (12, 13)}
    async with serve(llama) as server, SplitClient(server.address, str(llama)) as client:
        for length in (13, 12, 13, 12):
            inputs = {"input_ids": texts[length], "attention_mask": texts[length]}
            if 8 * length > 100:
                with pytest.raises(SettingError, match=r"attention_mask.* 104 bytes; 100 are"):
                    await client.infer(inputs)
            else:
                assert (await client.infer(inputs)).output.logits.shape == (1, length, 97)


async def test_positions_beyond_the_model_are_refused_and_not_fatal(llama, serve, offer):
    begin, chunk = feature_messages(CODEC.encode(FEATURE))
    mask = pb.RawTensor(
        name="attention_mask", data_type=pb.DATA_TYPE_INT64, shape=[1, 9], payload=bytes(72)
    )
    begin.begin.uncoded.append(mask)
    async with serve(llama) as server:
        with pytest.raises(Refusal) as caught:
            await talk(server.address, [pb.InferRequest(handshake=offer), begin, chunk])
        assert caught.value.reason == "INPUT_INVALID"
        assert await still_serves(server.address, llama)


async def test_messages_out_of_order_are_refused(llama, serve, offer):
    shake = pb.InferRequest(handshake=offer)
    begin, chunk = feature_messages(CODEC.encode(FEATURE))
    async with serve(llama) as server:
        for messages in ([begin], [chunk], [shake, shake], [shake, chunk], [shake, begin, begin]):
            with pytest.raises(Refusal, match="was expected") as caught:
                await talk(server.address, messages)
            assert caught.value.reason == "MESSAGE_OUT_OF_ORDER"


async def test_an_output_that_the_tail_does_not_give_is_refused_by_name(llama, serve):
    async with serve(llama) as server, SplitClient(server.address, str(llama)) as client:
        with pytest.raises(RefusedError, match="no output 'mask'; it gives logits"):
            await client.infer(IDS, outputs=["mask"])
        assert (await client.infer(IDS)).output.logits.shape == (1, 3, 97)
        with pytest.raises(RefusedError, match="no output 'mask'"):
            await client.infer(IDS, outputs=["mask"])
        assert client.last_stats is None  # that of the one before says nothing of this one


async def test_a_server_without_the_model_says_what_it_serves(llama, serve, tmp_path):
    other = tmp_path / "other-llama"
    other.mkdir()
    for file in llama.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    async with serve(llama) as server:
        with pytest.raises(RefusedError, match="'other-llama'; it serves random-llama"):
            await SplitClient(server.address, str(other)).__aenter__()


async def test_other_weights_under_the_same_name_are_refused(llama, serve, tmp_path):
    copy = tmp_path / "random-llama"
    copy.mkdir()
    for file in llama.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    async with serve(llama) as server:
        with pytest.raises(RefusedError, match="revision of random-llama") as caught:
            await SplitClient(server.address, str(copy)).__aenter__()
    assert caught.value.found == describe(copy).revision
    assert caught.value.allowed == describe(llama).revision


async def test_a_split_point_beyond_the_model_names_the_range(llama, serve):
    async with serve(llama) as server:
        with pytest.raises(RefusedError, match=r"layers\.9.*layers\.0 to layers\.4"):
            await SplitClient(server.address, str(llama), split="layers.9").__aenter__()


async def test_no_server_at_any_address_is_one_error_naming_them_all(llama):
    with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1:1.*127\.0\.0\.1:2"):
        await SplitClient("127.0.0.1:1,127.0.0.1:2", str(llama)).__aenter__()


async def test_the_first_server_that_answers_is_taken(llama, serve):
    async with serve(llama) as server:
        addresses = f"127.0.0.1:1,{server.address}"
        async with SplitClient(addresses, str(llama)) as client:
            assert (await client.infer(IDS)).output.logits.shape == (1, 3, 97)


async def test_a_full_server_refuses_with_a_time_to_retry_after(llama, serve):
    async with (
        serve(llama, max_sessions=1) as server,
        SplitClient(server.address, str(llama)) as client,
    ):
        with pytest.raises(RefusedError) as caught:
            await SplitClient(server.address, str(llama)).__aenter__()
        told = "no place for another session: 1 open, 1 allowed; try again in 1 s"
        assert str(caught.value) == told
        assert caught.value.code == "RESOURCE_EXHAUSTED"
        assert caught.value.retry_s == 1.0
        for _ in range(50):  # whether or not gRPC has read the status when it fails to write
            with pytest.raises(RefusedError):
                await SplitClient(server.address, str(llama)).__aenter__()
        assert (await client.infer(IDS)).output.logits.shape == (1, 3, 97)
