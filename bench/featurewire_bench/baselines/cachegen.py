"""A coder in the style of CacheGen, written from its paper for one layer's feature.

Y. Liu et al., "CacheGen: KV cache compression and streaming for fast LLM serving", arXiv
2310.07240, section 5.2: tokens in groups of ten; the first, the anchor, is kept in 8 bits; of the
others, the difference to the decoded anchor is quantised with a layer's bin; symbols are
arithmetic-coded with a distribution for each channel of the layer, profiled offline.

Choices made here where the paper leaves them open: the anchor's scale is float16, its largest
magnitude over 127; the bin, in the paper one of three widths by depth, is the quality setting;
anchors have distributions of their own; constriction's ANS coder stands for arithmetic coding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featurewire_bench.sources import Array, Part

from .coder import Shape
from .static_tables import Indices, Table, decode_indices, encode_indices, quantise

GROUP = 10
_TOP = 127
_SMALLEST_SCALE = 6e-8  # float16 holds it


@dataclass(frozen=True, eq=False)
class CacheGen:
    """The coder at one bin; one table a channel for anchors, one for differences."""

    bin: float
    anchor_tables: Sequence[Table]
    difference_tables: Sequence[Table]

    def encode(self, feature: Array) -> bytes:
        """float32 [tokens, channels] to bytes: length of the anchors' part, anchors, differences.

        float16 scales, one an anchor, come between the two.
        """
        scale, anchors = quantise_anchors(feature[::GROUP])
        differences = quantise(_differences(feature, scale, anchors), self.bin, 0.5)
        first = encode_indices(anchors, self.anchor_tables)
        second = encode_indices(differences, self.difference_tables) if len(differences) else b""
        return len(first).to_bytes(4, "little") + first + scale.tobytes() + second

    def decode(self, data: bytes, shape: Shape) -> Array:
        """The inverse of `encode`."""
        count = -(-shape[0] // GROUP)
        end = 4 + int.from_bytes(data[:4], "little")
        anchors = decode_indices(data[4:end], (count, shape[1]), self.anchor_tables)
        scale = np.frombuffer(data[end : end + 2 * count], np.float16).reshape(count, 1)
        decoded = anchors.astype(np.float32) * scale.astype(np.float32)
        feature = np.repeat(decoded, GROUP, axis=0)[: shape[0]]
        others = np.arange(shape[0]) % GROUP != 0
        if others.any():
            rest = (int(others.sum()), shape[1])
            differences = decode_indices(data[end + 2 * count :], rest, self.difference_tables)
            feature[others] += differences.astype(np.float32) * np.float32(self.bin)
        return feature


def cachegen(part: Part, snr_db: float) -> CacheGen:
    """Profile the channels' distributions on the calibration samples."""
    anchors, differences = list[Indices](), list[Indices]()
    step = part.step(snr_db)
    for sample in part.counted:
        scale, coarse = quantise_anchors(sample[::GROUP])
        anchors.append(coarse)
        differences.append(quantise(_differences(sample, scale, coarse), step, 0.5))
    return CacheGen(
        step,
        [Table.of(column) for column in np.concatenate(anchors).T],
        [Table.of(column) for column in np.concatenate(differences).T],
    )


def quantise_anchors(tokens: Array) -> tuple[np.ndarray[tuple[int, int], np.dtype], Indices]:
    """float16 scales [n, 1] and indices int32 [n, channels] within -127 .. 127."""
    peaks = np.abs(tokens).max(axis=1, keepdims=True)
    scale = np.clip(peaks / _TOP, _SMALLEST_SCALE, 65504).astype(np.float16)
    indices = np.clip(np.rint(tokens / scale.astype(np.float32)), -_TOP, _TOP)
    return scale, indices.astype(np.int32)


def _differences(feature: Array, scale: np.ndarray, anchors: Indices) -> Array:
    decoded = anchors.astype(np.float32) * scale.astype(np.float32)
    others = np.arange(len(feature)) % GROUP != 0
    difference: Array = (feature - np.repeat(decoded, GROUP, axis=0)[: len(feature)])[others]
    return difference.astype(np.float32)
