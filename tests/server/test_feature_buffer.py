"""A feature's chunks are put together in order, and every bound holds before anything is kept."""

import pytest
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire import limits
from featurewire.wire.status import Refusal
from featurewire_server.feature_buffer import FeatureBuffer, check_begin


def begin(*shapes: tuple[int, int, int]) -> pb.Begin:
    tensors = [
        pb.CodedTensor(name=f"t{i}", batch=b, tokens=t, channels=c)
        for i, (b, t, c) in enumerate(shapes)
    ]
    return pb.Begin(request=1, tensors=tensors)


def chunk(tensor: int, sample: int, payload: bytes = b"x", request: int = 1) -> pb.Chunk:
    return pb.Chunk(request=request, tensor=tensor, sample=sample, payload=payload)


def reason_of(call, *arguments) -> str:
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value.reason


def buffer_of(*shapes: tuple[int, int, int]) -> FeatureBuffer:
    announced = begin(*shapes)
    return FeatureBuffer(announced, announced.ByteSize())


def add(buffer: FeatureBuffer, part: pb.Chunk) -> pb.CodedTensor:
    return buffer.add(part, len(part.payload))


def test_chunks_are_followed_by_tensor_and_sample():
    buffer = buffer_of((2, 3, 4), (1, 1, 1))
    parts = [(0, 0, b"a"), (0, 0, b"b"), (0, 1, b"c"), (1, 0, b"d")]
    seen = [(add(buffer, chunk(*part)).name, buffer.samples) for part in parts]
    assert seen == [("t0", 1), ("t0", 1), ("t0", 2), ("t1", 3)]
    assert buffer.chunks == 4
    sizes = [chunk(*part).ByteSize() for part in parts]
    assert buffer.received_bytes == begin((2, 3, 4), (1, 1, 1)).ByteSize() + sum(sizes)


def test_a_last_chunk_before_all_samples_is_refused():
    buffer = buffer_of((2, 3, 4))
    last = chunk(0, 0)
    last.last = True
    assert reason_of(add, buffer, last) == "MESSAGE_OUT_OF_ORDER"


@pytest.mark.parametrize(
    "stray",
    [chunk(0, 1), chunk(1, 0), chunk(0, 9), chunk(5, 0), chunk(0, 0, request=2)],
    ids=["skips a sample", "skips a tensor", "no such sample", "no such tensor", "other request"],
)
def test_a_chunk_out_of_order_is_refused(stray):
    buffer = buffer_of((2, 3, 4), (1, 1, 1))
    assert reason_of(add, buffer, stray) == "MESSAGE_OUT_OF_ORDER"


def of_part(sample: int, tokens: int, last: bool = False, payload: bytes = b"x") -> pb.Chunk:
    return pb.Chunk(request=1, sample=sample, tokens=tokens, last=last, payload=payload)


def in_parts() -> FeatureBuffer:
    buffer = buffer_of((2, 5, 4))
    buffer.begin.parts = True
    return buffer


def test_the_parts_of_samples_follow_one_another():
    buffer, seen = in_parts(), []
    for part in (
        of_part(0, 3),
        of_part(0, 0),
        of_part(0, 2),
        of_part(1, 4),
        of_part(1, 1, last=True),
    ):
        add(buffer, part)
        seen.append(buffer.part)
    assert seen == [range(3), range(3, 3), range(3, 5), range(4), range(4, 5)]
    assert buffer.is_complete


@pytest.mark.parametrize(
    ("before", "stray", "reason"),
    [
        ([], of_part(0, 6), "TOO_LARGE"),
        ([of_part(0, 5)], of_part(0, 1), "MESSAGE_OUT_OF_ORDER"),
        ([of_part(0, 5)], of_part(0, 0), "MESSAGE_OUT_OF_ORDER"),
        ([of_part(0, 4)], of_part(1, 5), "MESSAGE_OUT_OF_ORDER"),
        ([of_part(0, 5), of_part(1, 4)], of_part(1, 0, last=True), "MESSAGE_OUT_OF_ORDER"),
        ([], of_part(0, 0, payload=b""), "BITSTREAM_INVALID"),
    ],
    ids=[
        "too long",
        "beyond the sample",
        "of no tokens beyond it",
        "of the next sample too soon",
        "the last one too soon",
        "empty",
    ],
)
def test_a_part_that_does_not_fit_is_refused(before, stray, reason):
    buffer = in_parts()
    for part in before:
        add(buffer, part)
    assert reason_of(add, buffer, stray) == reason


def test_going_back_to_an_earlier_sample_is_refused():
    buffer = buffer_of((2, 3, 4))
    add(buffer, chunk(0, 0))
    add(buffer, chunk(0, 1))
    assert reason_of(add, buffer, chunk(0, 0)) == "MESSAGE_OUT_OF_ORDER"


def test_a_sample_of_more_bytes_than_its_features_could_need_is_refused():
    buffer = buffer_of((1, 1, 1))
    assert reason_of(add, buffer, chunk(0, 0, bytes(5000))) == "TOO_LARGE"


def test_a_chunk_over_the_limit_is_refused():
    buffer = buffer_of((1, 1000, 1000))
    too_many = bytes(limits.MAX_CHUNK_BYTES + 1)
    assert reason_of(add, buffer, chunk(0, 0, too_many)) == "TOO_LARGE"


@pytest.mark.parametrize(
    ("announced", "reason"),
    [
        (begin(), "TOO_LARGE"),
        (begin((1, 2**31, 2**31)), "TOO_LARGE"),
        (begin(*[(1, 1, 1)] * 65), "TOO_LARGE"),
        (begin((1, 0, 8)), "TENSOR_MALFORMED"),
        (pb.Begin(tensors=[pb.CodedTensor(name="a", batch=1, tokens=1, channels=1)] * 2),
         "TENSOR_MALFORMED"),
        (pb.Begin(tensors=[pb.CodedTensor(name="a", batch=1, tokens=1, channels=1)],
                  uncoded=[pb.RawTensor(payload=bytes(3 * 2**20))]), "TOO_LARGE"),
    ],
    ids=["no tensor", "2^62 features", "65 tensors", "no tokens", "same name", "3 MiB uncoded"],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_at_its_announcement(announced, reason):
    assert reason_of(check_begin, announced) == reason
