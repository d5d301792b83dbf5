"""A uniform step and static tables: the textbook codec that a learned one must beat.

Tables are counted on the calibration samples at the very step, shared beforehand, and coded with
constriction's ANS coder; a value beyond its table is an escape with a raw int32. Bytes: the number
of escapes (LEB128), the words, the escapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from featurewire_bench.sources import Array, Part

from .coder import Shape

MAX_RADIUS = 2047
_UNSEEN = 0.25  # the count of a value that calibration never saw
Indices = NDArray[np.int32]
Model = Any  # a constriction Categorical; the package has no types


@dataclass(frozen=True, eq=False)
class Table:
    """A frozen distribution of -radius .. radius and an escape."""

    radius: int
    model: Model

    @classmethod
    def of(cls, indices: Indices) -> "Table":
        """Count a table."""
        radius = int(min(np.abs(indices).max(initial=0), MAX_RADIUS))
        symbols = _symbols(indices.ravel(), radius)
        counts = np.bincount(symbols, minlength=2 * radius + 2) + _UNSEEN
        model = constriction.stream.model.Categorical(counts / counts.sum(), perfect=False)
        return cls(radius, model)


@dataclass(frozen=True, eq=False)
class TableCoder:
    """Uniform quantisation with one table, or one for each channel.

    rounding: what is added before truncation; below a half it widens the zero bin.
    centres: float32 [4, tables], where in a bin magnitudes 0, 1, 2 and more are rebuilt, in steps.
    """

    step: float
    rounding: float
    tables: Sequence[Table]
    centres: Array

    def encode(self, feature: Array) -> bytes:
        """float32 [tokens, channels] to bytes."""
        return encode_indices(quantise(feature, self.step, self.rounding), self.tables)

    def decode(self, data: bytes, shape: Shape) -> Array:
        """The inverse of `encode`."""
        indices = decode_indices(data, shape, self.tables)
        place = np.minimum(np.abs(indices), 3)
        offset = self.centres[place, np.arange(shape[1]) % len(self.tables)]
        return ((indices + np.sign(indices) * offset) * np.float32(self.step)).astype(np.float32)


def one_table(part: Part, snr_db: float) -> TableCoder:
    """One table for everything, nearest rounding, bins rebuilt at their middle."""
    step, samples = part.step(snr_db), np.concatenate(part.counted)
    indices = quantise(samples, step, 0.5)
    return TableCoder(step, 0.5, [Table.of(indices)], np.zeros((4, 1), np.float32))


ROUNDINGS = (0.5, 0.42, 0.35, 0.28)


def table_a_channel(part: Part, snr_db: float) -> TableCoder:
    """A table for each channel, bins rebuilt at their calibrated centres.

    The width of the zero bin is the one that costs least on the calibration samples, along their
    own rate-distortion slope.
    """
    step, samples = part.step(snr_db), np.concatenate(part.counted)
    rate, error = _ideal(samples, step, 0.5)
    coarse_rate, coarse_error = _ideal(samples, 1.25 * step, 0.5)
    slope = (rate - coarse_rate) / max(np.log2(coarse_error / error), 1e-9)

    def cost(rounding: float) -> float:
        bits, mse = _ideal(samples, step, rounding)
        return float(bits + slope * np.log2(mse))

    best = min(ROUNDINGS, key=cost)
    indices = quantise(samples, step, best)
    tables = [Table.of(column) for column in indices.T]
    return TableCoder(step, best, tables, _centres(samples, indices, step))


def quantise(feature: Array, step: float, rounding: float) -> Indices:
    """Indices int32 of the same shape, symmetric about zero."""
    magnitude = np.abs(feature) / np.float32(step) + np.float32(rounding)
    whole = np.minimum(magnitude, 2**30).astype(np.int32)
    indices: Indices = np.where(feature < 0, -whole, whole)
    return indices


def encode_indices(indices: Indices, tables: Sequence[Table]) -> bytes:
    """Code [tokens, channels], channel after channel, with one table or one for each channel."""
    coder, escapes = constriction.stream.stack.AnsCoder(), list[Indices]()
    for column, table in _runs(indices.shape[1], tables):
        values = np.ascontiguousarray(indices[:, column]).ravel()
        escapes.append(values[np.abs(values) > table.radius])
        coder.encode_reverse(_symbols(values, table.radius), table.model)
    beyond = np.concatenate(escapes[::-1])
    words: NDArray[np.uint32] = coder.get_compressed()
    return _leb128(len(beyond)) + words.tobytes() + beyond.tobytes()


def decode_indices(data: bytes, shape: Shape, tables: Sequence[Table]) -> Indices:
    """The inverse of `encode_indices`."""
    count, start = _from_leb128(data)
    end = len(data) - 4 * count
    coder = constriction.stream.stack.AnsCoder(np.frombuffer(data[start:end], np.uint32))
    beyond = np.frombuffer(data[end:], np.int32)
    indices, taken = np.empty(shape, np.int32), 0
    for column, table in reversed(_runs(shape[1], tables)):
        part = indices[:, column]
        values = coder.decode(table.model, part.size) - table.radius
        escaped = values > table.radius
        values[escaped] = beyond[taken : taken + escaped.sum()]
        taken += int(escaped.sum())
        indices[:, column] = values.reshape(part.shape)
    return indices


def _runs(channels: int, tables: Sequence[Table]) -> list[tuple[slice, Table]]:
    """The runs of one table in the order of encoding, which on a stack is the last first."""
    if len(tables) == 1:
        return [(slice(0, channels), tables[0])]
    return [(slice(c, c + 1), tables[c]) for c in reversed(range(channels))]


def _symbols(values: Indices, radius: int) -> Indices:
    symbols: Indices = np.where(np.abs(values) > radius, 2 * radius + 1, values + radius)
    return symbols.astype(np.int32)


def _centres(samples: Array, indices: Indices, step: float) -> Array:
    excess = np.abs(samples) / np.float32(step) - np.abs(indices)
    classes = np.minimum(np.abs(indices), 3)
    centres = np.zeros((4, samples.shape[1]), np.float32)
    for place in (1, 2, 3):
        here = classes == place
        centres[place] = (excess * here).sum(0) / (here.sum(0) + 4)
    return centres


def _ideal(samples: Array, step: float, rounding: float) -> tuple[float, float]:
    """The entropy of each channel's own indices, bits a feature, and the MSE, on some tokens."""
    some = samples[:: max(1, len(samples) // 8192)]
    indices = quantise(some, step, rounding)
    centres = _centres(some, indices, step)
    offset = centres[np.minimum(np.abs(indices), 3), np.arange(some.shape[1])]
    error = (indices + np.sign(indices) * offset) * np.float32(step) - some
    bits = 0.0
    for column in indices.T:
        counts = np.unique(column, return_counts=True)[1]
        bits -= float((counts * np.log2(counts / len(column))).sum())
    return bits / indices.size, float(np.mean(error**2, dtype=np.float64)) + 1e-30


def _leb128(number: int) -> bytes:
    data = bytearray()
    while number >= 128:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def _from_leb128(data: bytes) -> tuple[int, int]:
    number = place = 0
    while True:
        number |= (data[place] & 127) << (7 * place)
        place += 1
        if data[place - 1] < 128:
            return number, place
