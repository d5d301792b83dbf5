"""Ways to send a feature without a codec of its own: [tokens, channels] in, bytes out, and back.

Entropy coding is the standard library's zlib at its default level; nothing here looks at the data
to choose. The shape is taken as known on both sides and not counted.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Shape = tuple[int, int]


@dataclass(frozen=True)
class Baseline:
    """A named pair of inverse functions; `decode` returns float32."""

    name: str
    encode: Callable[[torch.Tensor], bytes]
    decode: Callable[[bytes, Shape], torch.Tensor]


def _bytes(tensor: torch.Tensor) -> npt.NDArray[np.uint8]:
    return np.asarray(tensor.contiguous().view(torch.uint8).numpy()).reshape(-1)


def encode_float16(feature: torch.Tensor) -> bytes:
    """Two bytes a feature."""
    return _bytes(feature.half()).tobytes()


def decode_float16(data: bytes, shape: Shape) -> torch.Tensor:
    """The inverse of `encode_float16`."""
    return torch.frombuffer(bytearray(data), dtype=torch.float16).reshape(shape).float()


def encode_bfloat16(feature: torch.Tensor) -> bytes:
    """bfloat16, high bytes (signs and exponents) before low ones, then zlib."""
    return zlib.compress(_bytes(feature.bfloat16()).reshape(-1, 2)[:, ::-1].T.tobytes())


def decode_bfloat16(data: bytes, shape: Shape) -> torch.Tensor:
    """The inverse of `encode_bfloat16`."""
    planes = np.frombuffer(zlib.decompress(data), np.uint8).reshape(2, -1)
    joined = torch.from_numpy(np.ascontiguousarray(planes[::-1].T))
    return joined.view(torch.bfloat16).reshape(shape).float()


def encode_int8(feature: torch.Tensor) -> bytes:
    """One scale a token (float32, its largest magnitude / 127), then int8, then zlib."""
    scale = feature.float().abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
    symbols = (feature.float() / scale).round().to(torch.int8)
    return _bytes(scale).tobytes() + zlib.compress(_bytes(symbols).tobytes())


def decode_int8(data: bytes, shape: Shape) -> torch.Tensor:
    """The inverse of `encode_int8`."""
    tokens = shape[0]
    scale = torch.frombuffer(bytearray(data[: 4 * tokens]), dtype=torch.float32).reshape(tokens, 1)
    symbols = np.frombuffer(zlib.decompress(data[4 * tokens :]), np.int8).reshape(shape)
    return torch.from_numpy(symbols.astype(np.float32)) * scale


BASELINES = (
    Baseline("float16", encode_float16, decode_float16),
    Baseline("bfloat16 + zlib", encode_bfloat16, decode_bfloat16),
    Baseline("int8 per token + zlib", encode_int8, decode_int8),
)
