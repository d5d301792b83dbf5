"""Tensors that travel as they are: `torch.Tensor` <-> `RawTensor`, row-major and little-endian."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch

from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.limits import MAX_DIMENSIONS, MAX_ELEMENTS, MAX_OUTPUT_CHUNK_BYTES
from featurewire.wire.status import Refusal

_DTYPES: dict[pb.DataType, torch.dtype] = {
    pb.DATA_TYPE_FLOAT32: torch.float32,
    pb.DATA_TYPE_FLOAT16: torch.float16,
    pb.DATA_TYPE_BFLOAT16: torch.bfloat16,
    pb.DATA_TYPE_INT64: torch.int64,
    pb.DATA_TYPE_INT32: torch.int32,
    pb.DATA_TYPE_UINT8: torch.uint8,
    pb.DATA_TYPE_BOOL: torch.bool,
    pb.DATA_TYPE_FLOAT64: torch.float64,
}
_DATA_TYPES = {dtype: data_type for data_type, dtype in _DTYPES.items()}


def to_bytes(tensor: torch.Tensor) -> bytes:
    """The tensor's elements in row-major order; any dtype that travels, device and stride."""
    return _elements(tensor).tobytes()


def _elements(tensor: torch.Tensor) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    if tensor.dtype is torch.bfloat16:  # numpy has none
        tensor = tensor.detach().view(torch.int16)
    return tensor.numpy(force=True).reshape(-1).view(np.uint8)


def from_bytes(payload: bytes, dtype: torch.dtype, shape: Iterable[int]) -> torch.Tensor:
    """The inverse of `to_bytes`.

    Raises:
        Refusal: the payload's length is not that of the shape, or no tensor has that shape.
    """
    sizes = tuple(shape)
    expected = math.prod(sizes) * dtype.itemsize
    strides = math.prod(max(size, 1) for size in sizes)
    if len(sizes) > MAX_DIMENSIONS or strides > MAX_ELEMENTS or len(payload) != expected:
        raise Refusal(
            "TENSOR_MALFORMED",
            f"a {dtype} tensor of shape {list(sizes)} came with {len(payload)} bytes",
            found=str(len(payload)),
            allowed=str(expected),
        )
    if not expected:
        return torch.empty(sizes, dtype=dtype)
    return torch.frombuffer(bytearray(payload), dtype=dtype).reshape(sizes)


def dtype_of(data_type: pb.DataType) -> torch.dtype:
    """The element type that the number names.

    Raises:
        Refusal: the number names none.
    """
    if data_type not in _DTYPES:
        raise Refusal(
            "TENSOR_MALFORMED",
            f"data type {data_type} is none of {sorted(_DTYPES)}",
            found=str(data_type),
            allowed=str(sorted(_DTYPES)),
        )
    return _DTYPES[data_type]


def data_type_of(tensor: torch.Tensor) -> pb.DataType:
    """The wire's number for the tensor's element type.

    Raises:
        Refusal: the wire has none for it.
    """
    if tensor.dtype not in _DATA_TYPES:
        allowed = ", ".join(str(dtype) for dtype in _DATA_TYPES)
        message = f"a tensor of {tensor.dtype} cannot travel; those of {allowed} can"
        raise Refusal("TENSOR_MALFORMED", message, found=str(tensor.dtype), allowed=allowed)
    return _DATA_TYPES[tensor.dtype]


def pack(tensors: Mapping[str, torch.Tensor]) -> list[pb.RawTensor]:
    return [
        pb.RawTensor(
            name=name,
            data_type=data_type_of(tensor),
            shape=list(tensor.shape),
            payload=to_bytes(tensor),
        )
        for name, tensor in tensors.items()
    ]


def unpack(messages: Iterable[pb.RawTensor]) -> dict[str, torch.Tensor]:
    """The inverse of `pack`.

    Raises:
        Refusal: a payload's length is not that of its shape, or its data type is unknown.
    """
    return {
        message.name: from_bytes(message.payload, dtype_of(message.data_type), message.shape)
        for message in messages
    }


def output_chunks(
    request: int, parts: Sequence[Mapping[str, torch.Tensor]]
) -> Iterator[pb.OutputChunk]:
    """Outputs as messages of bounded size (`limits`); each tensor's first one describes it.

    Several parts of a batch, in order, are one answer; no copy of all of it is made.
    """
    for name, first in parts[0].items():
        shape = list(first.shape)
        if parts[1:]:
            shape[0] = sum(len(part[name]) for part in parts)
        described = pb.OutputChunk(data_type=data_type_of(first), shape=shape)
        for part in parts:
            elements = _elements(part[name])
            for start in range(0, max(len(elements), 1), MAX_OUTPUT_CHUNK_BYTES):
                described.request, described.name = request, name
                described.payload = elements[start : start + MAX_OUTPUT_CHUNK_BYTES].tobytes()
                yield described
                described = pb.OutputChunk()


def join_outputs(chunks: Iterable[pb.OutputChunk]) -> dict[str, torch.Tensor]:
    """The inverse of `output_chunks`.

    Raises:
        Refusal: as `unpack`.
    """
    first: dict[str, pb.OutputChunk] = {}
    pieces: dict[str, list[bytes]] = {}
    for chunk in chunks:
        first.setdefault(chunk.name, chunk)
        pieces.setdefault(chunk.name, []).append(chunk.payload)
    return {
        name: from_bytes(b"".join(pieces[name]), dtype_of(head.data_type), head.shape)
        for name, head in first.items()
    }
