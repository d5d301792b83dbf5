"""Tensors keep dtype, shape and every bit across the wire; malformed ones are refused."""

import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.limits import MAX_OUTPUT_CHUNK_BYTES
from featurewire.wire.status import Refusal
from featurewire.wire.tensors import join_outputs, output_chunks, pack, unpack

TENSORS = {
    "float32": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "float64": torch.tensor([1e300], dtype=torch.float64),
    "float16": torch.tensor([[1.5, -2.0]], dtype=torch.float16),
    "bfloat16": torch.tensor([3.0, float("nan")], dtype=torch.bfloat16),
    "int64": torch.arange(5),
    "int32": torch.arange(5, dtype=torch.int32),
    "uint8": torch.arange(256, dtype=torch.uint8).reshape(16, 16),
    "bool": torch.tensor([True, False]),
    "scalar": torch.tensor(7),
    "empty": torch.empty(0, 3),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
}


def assert_same(found: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(TENSORS)
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].nan_to_num(), tensor.nan_to_num()), name


def test_every_dtype_and_shape_comes_back_as_it_was():
    assert_same(unpack(pack(TENSORS)))


def test_outputs_come_back_from_their_chunks():
    assert_same(join_outputs(output_chunks(1, [TENSORS])))


def test_a_large_output_travels_in_bounded_chunks():
    large = torch.randn(100_000)
    chunks = list(output_chunks(1, [{"large": large}]))
    assert len(chunks) == 7
    assert max(len(chunk.payload) for chunk in chunks) == MAX_OUTPUT_CHUNK_BYTES
    assert torch.equal(join_outputs(chunks)["large"], large)


@pytest.mark.parametrize(
    "message",
    [
        pb.RawTensor(name="short", data_type=pb.DATA_TYPE_FLOAT32, shape=[2], payload=b"1234"),
        pb.RawTensor(name="huge", data_type=pb.DATA_TYPE_UINT8, shape=[2**40], payload=b""),
        pb.RawTensor(name="empty", data_type=pb.DATA_TYPE_FLOAT16, shape=[0, 2**64 - 1]),
        pb.RawTensor(name="wide", data_type=pb.DATA_TYPE_FLOAT16, shape=[0, 2**40, 2**40]),
        pb.RawTensor(name="untyped", shape=[1], payload=b"1"),
        pb.RawTensor(name="deep", data_type=pb.DATA_TYPE_UINT8, shape=[1] * 9, payload=b"1"),
    ],
    ids=lambda message: message.name,
)
def test_a_malformed_tensor_is_refused(message):
    with pytest.raises(Refusal) as caught:
        unpack([message])
    assert caught.value.reason == "TENSOR_MALFORMED"


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
def test_a_dtype_that_the_wire_has_no_number_for_is_refused(dtype):
    with pytest.raises(Refusal, match=f"{dtype} cannot travel"):
        pack({"odd": torch.zeros(1).to(dtype)})
    with pytest.raises(Refusal, match=f"{dtype} cannot travel"):
        list(output_chunks(1, [{"odd": torch.zeros(1).to(dtype)}]))
