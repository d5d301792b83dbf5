"""Plain number formats, each with zstandard where that helps: what a service would do first.

The shape is taken as known on both sides and not counted. Nothing is calibrated, and zstandard
works at its default level.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurewire_bench.sources import Array

from .coder import Shape, zstandard

GROUP = 64
_SMALLEST_SCALE = 6e-8  # float16 holds it


@dataclass(frozen=True)
class Float16:
    """Two bytes a feature."""

    def encode(self, feature: Array) -> bytes:
        """float32 [tokens, channels] to bytes; values beyond 65504 become it."""
        return np.clip(feature, -65504, 65504).astype(np.float16).tobytes()

    def decode(self, data: bytes, shape: Shape) -> Array:
        """The inverse of `encode`."""
        return np.frombuffer(data, np.float16).reshape(shape).astype(np.float32)


@dataclass(frozen=True)
class ShuffledBfloat16:
    """bfloat16, high bytes (signs and exponents) before low ones, then zstandard."""

    def encode(self, feature: Array) -> bytes:
        """float32 [tokens, channels] to bytes, rounded to the nearest, ties to even."""
        words = feature.view(np.uint32).astype(np.uint64)
        halves = ((words + 0x7FFF + ((words >> 16) & 1)) >> 16).astype("<u2")
        planes = halves.view(np.uint8).reshape(-1, 2)[:, ::-1].T
        compressed: bytes = zstandard().ZstdCompressor().compress(planes.tobytes())
        return compressed

    def decode(self, data: bytes, shape: Shape) -> Array:
        """The inverse of `encode`."""
        raw = zstandard().ZstdDecompressor().decompress(data)
        planes = np.frombuffer(raw, np.uint8).reshape(2, -1)
        halves = np.ascontiguousarray(planes[::-1].T).view("<u2").ravel()
        return (halves.astype(np.uint32) << 16).view(np.float32).reshape(shape)


@dataclass(frozen=True)
class ScaledIntegers:
    """Signed integers of 8 or 4 bits with a float16 scale for each group of channels of a token.

    The scale is the group's largest magnitude over the largest integer; integers go through
    zstandard, two of 4 bits to a byte.
    """

    bits: int
    group: int | None = None  # channels that share a scale; None: all of a token's

    def encode(self, feature: Array) -> bytes:
        """float32 [tokens, channels] to bytes."""
        top = (1 << (self.bits - 1)) - 1
        groups = self._grouped(feature)
        peaks = np.abs(groups).max(axis=2, keepdims=True)
        scale = np.clip(peaks / top, _SMALLEST_SCALE, 65504).astype(np.float16)
        integers = np.clip(np.rint(groups / scale.astype(np.float32)), -top, top)
        packed = _pack(integers.astype(np.int8), self.bits)
        compressed: bytes = zstandard().ZstdCompressor().compress(packed.tobytes())
        scales: bytes = scale.tobytes()
        return scales + compressed

    def decode(self, data: bytes, shape: Shape) -> Array:
        """The inverse of `encode`."""
        width, groups = self._groups(shape[1])
        scales = 2 * shape[0] * groups
        scale = np.frombuffer(data[:scales], np.float16).reshape(shape[0], groups, 1)
        raw = zstandard().ZstdDecompressor().decompress(data[scales:])
        integers = _unpack(np.frombuffer(raw, np.uint8), self.bits, shape[0] * groups * width)
        values = integers.reshape(shape[0], groups, width) * scale.astype(np.float32)
        return np.ascontiguousarray(values.reshape(shape[0], -1)[:, : shape[1]])

    def _groups(self, channels: int) -> tuple[int, int]:
        width = min(self.group or channels, channels)
        return width, -(-channels // width)

    def _grouped(self, feature: Array) -> Array:
        width, groups = self._groups(feature.shape[1])
        padded = np.pad(feature, ((0, 0), (0, groups * width - feature.shape[1])))
        return padded.reshape(len(feature), groups, width)


def _pack(integers: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    flat = integers.ravel().view(np.uint8)
    if bits == 8:
        return flat
    padded: NDArray[Any] = np.pad(flat, (0, len(flat) % 2)) & 15
    joined: NDArray[np.uint8] = padded[::2] | (padded[1::2] << 4)
    return joined


def _unpack(packed: NDArray[np.uint8], bits: int, count: int) -> Array:
    if bits == 8:
        return packed.view(np.int8).astype(np.float32)
    nibbles = np.stack([packed & 15, packed >> 4], axis=1).ravel()[:count].astype(np.int8)
    return np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.float32)
