"""The frozen tables of the entropy model: class histograms in, integer frequencies out.

`tables.safetensors` ships both, so the tables can be rebuilt bit for bit without the data they were
trained on (`featurewire-codec train` makes the histograms from feature files). Integers only.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import TableError

CLASSES = 64
MAX_RADIUS = 127  # the largest R, so that a symbol fits a byte
FREQUENCY_SUM = 1 << 14
MAX_EXPONENT = 31  # row and column exponents lie within -31 .. 31
ESCAPE_LENGTHS = 32  # bit lengths 1 .. 32 of an escape's Exp-Golomb code
CENTROIDS = 4  # for magnitudes 0, 1, 2, and 3 or more
MIN_CLASS_COUNT = 1 << 16  # a class seen less often borrows the histogram of the class above
_PRIOR_COUNT = 64  # draws a centroid that few samples measured towards the plain index
FILE = Path(__file__).with_name("tables.safetensors")

_SHAPES: dict[str, tuple[tuple[int, ...], Any]] = {
    "magnitudes": ((CLASSES, MAX_RADIUS + 1), np.int64),
    "offsets": ((CLASSES, CENTROIDS), np.int64),
    "row_exponents": ((2 * MAX_EXPONENT + 1,), np.int64),
    "column_exponents": ((2 * MAX_EXPONENT + 1,), np.int64),
    "escape_lengths": ((ESCAPE_LENGTHS,), np.int64),
    "trellis_magnitudes": ((CLASSES, 2, MAX_RADIUS + 1), np.int64),
    "trellis_offsets": ((CLASSES, 2, CENTROIDS), np.int64),
}


@dataclass(frozen=True, eq=False)
class Histograms:
    """What training counts; all int64.

    magnitudes [64, 128]: indices by class and magnitude, the last column of a class (its radius)
        with everything beyond.
    offsets [64, 4]: by class and min(magnitude, 3), the sum of (magnitude in steps - index), in
        1/256 of a step; the first column is zero.
    row_exponents, column_exponents [63]: exponents -31 .. 31.
    escape_lengths [32]: bit lengths 1 .. 32.
    trellis_magnitudes [64, 2, 128], trellis_offsets [64, 2, 4]: the first two for the indices of a
        trellis, by quantiser too; the offsets are from what it rebuilds without a centroid.
    """

    magnitudes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    row_exponents: NDArray[np.int64]
    column_exponents: NDArray[np.int64]
    escape_lengths: NDArray[np.int64]
    trellis_magnitudes: NDArray[np.int64]
    trellis_offsets: NDArray[np.int64]

    @classmethod
    def zeros(cls) -> "Histograms":
        """Return empty histograms to count into."""
        return cls(**{name: np.zeros(shape, kind) for name, (shape, kind) in _SHAPES.items()})


def total(counted: Sequence[Histograms]) -> Histograms:
    """Add up histograms."""
    return Histograms(**{name: sum(getattr(one, name) for one in counted) for name in _SHAPES})


@dataclass(frozen=True, eq=False)
class Tables:
    """The frozen tables.

    radii int32[64]: the largest magnitude of each class's alphabet, whose two edges escape.
    classes: for each class, uint32[2 * radius + 1] frequencies of index -radius .. radius.
    row_exponents, column_exponents uint32[63]: frequencies of exponents -31 .. 31.
    escape_lengths uint32[32]: frequencies of the bit lengths 1 .. 32.
    centroids int8[64, 4]: see `panels.dequantise`.
    trellis: as `classes`, at 2 * class + quantiser. trellis_centroids int8[64, 2, 4]: see
        `trellis.dequantise`.
    """

    radii: NDArray[np.int32]
    classes: tuple[NDArray[np.uint32], ...]
    row_exponents: NDArray[np.uint32]
    column_exponents: NDArray[np.uint32]
    escape_lengths: NDArray[np.uint32]
    centroids: NDArray[np.int8]
    trellis: tuple[NDArray[np.uint32], ...]
    trellis_centroids: NDArray[np.int8]


@functools.cache
def class_radii() -> NDArray[np.int32]:
    """Return int32[64]: ten times the class's mean magnitude, and three, at most 127.

    The mean m is 2^((class - 48) / 4), so in integers: the least r with (r - 3)^4 >= 10^4 m^4.
    """
    radii = []
    for number in range(CLASSES):
        radius = 3
        while radius < MAX_RADIUS and (radius - 3) ** 4 << 48 < 10**4 << number:
            radius += 1
        radii.append(radius)
    return np.array(radii, np.int32)


def to_frequencies(
    weights: NDArray[np.int64], spare: int, total: int = FREQUENCY_SUM
) -> NDArray[np.uint32]:
    """Scale counts to frequencies of at least 1 that sum to `total`; rounding goes to `spare`.

    Raises:
        TableError: the weights are all zero.
    """
    seen = int(weights.sum())
    if seen == 0:
        raise TableError("a table's histogram is empty: train on more or more varied features")
    room = total - len(weights)
    frequencies = np.array([1 + int(weight) * room // seen for weight in weights], np.int64)
    frequencies[spare] += total - frequencies.sum()
    return frequencies.astype(np.uint32)


def build_tables(histograms: Histograms) -> Tables:
    """Build the tables from the histograms: deterministic, integers only, symmetric in sign.

    Raises:
        TableError: the largest class was never seen.
    """
    radii = class_radii()
    trellis = zip(
        _class_tables(histograms.trellis_magnitudes[:, 0]),
        _class_tables(histograms.trellis_magnitudes[:, 1]),
        strict=True,
    )
    return Tables(
        radii=radii,
        classes=tuple(_class_tables(histograms.magnitudes)),
        row_exponents=to_frequencies(histograms.row_exponents + 1, MAX_EXPONENT),
        column_exponents=to_frequencies(histograms.column_exponents + 1, MAX_EXPONENT),
        escape_lengths=to_frequencies(histograms.escape_lengths + 1, 0),
        centroids=_centroids(histograms.magnitudes, histograms.offsets),
        trellis=tuple(table for pair in trellis for table in pair),
        trellis_centroids=_centroids(histograms.trellis_magnitudes, histograms.trellis_offsets),
    )


def _class_tables(magnitudes: NDArray[np.int64]) -> list[NDArray[np.uint32]]:
    """Turn int64[64, 128] counts of magnitudes into the frequencies of each class's alphabet."""
    counts, tables = magnitudes.copy(), []
    for number in range(CLASSES - 2, -1, -1):
        if counts[number].sum() < MIN_CLASS_COUNT:
            counts[number] = counts[number + 1]
    for radius, seen in zip(class_radii(), counts, strict=True):
        positive = seen[1 : radius + 1]
        weights = np.concatenate([positive[::-1], 2 * seen[:1], positive])
        tables.append(to_frequencies(weights, spare=int(radius)))
    return tables


def _centroids(magnitudes: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return int8[..., 4]: the mean offsets, in 1/256 of a step."""
    many = np.concatenate(
        [magnitudes[..., :3], magnitudes[..., 3:].sum(-1, keepdims=True)], axis=-1
    )
    mean = np.clip(offsets // (many + _PRIOR_COUNT), -127, 127)
    centroids: NDArray[np.int8] = mean.astype(np.int8)
    return centroids


def save_tables(histograms: Histograms, path: Path) -> None:
    """Write the histograms, and the frequencies built from them, as one safetensors file."""
    from safetensors.numpy import save_file

    tables = build_tables(histograms)
    tensors = {f"histograms.{f.name}": getattr(histograms, f.name) for f in fields(histograms)}
    save_file(tensors | {f"tables.{name}": array for name, array in _flat(tables).items()}, path)


def magnitude_bits(tables: Tables) -> NDArray[np.float64]:
    """Return float64[64, 5]: what the magnitudes 0 to 4 cost in each class, signs included."""
    bits = np.empty((CLASSES, 5))
    for number, (radius, frequencies) in enumerate(zip(tables.radii, tables.classes, strict=True)):
        places = np.minimum(radius + np.arange(5), 2 * radius)
        bits[number] = np.log2(FREQUENCY_SUM) - np.log2(frequencies[places])
    return bits


@functools.cache
def load_tables(path: Path = FILE) -> Tables:
    """Read the tables of `path`, by default the frozen ones.

    Raises:
        TableError: the file is damaged, or its tables do not follow from its histograms.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        stored = load_file(path)
        histograms = Histograms(**{name: stored[f"histograms.{name}"] for name in _SHAPES})
    except (OSError, KeyError, SafetensorError) as error:
        raise TableError(f"{path} holds no entropy-model tables: {error}") from error
    for name, (shape, kind) in _SHAPES.items():
        array = getattr(histograms, name)
        if array.shape != shape or array.dtype != kind:
            raise TableError(f"{path}: {name} is {array.dtype}{array.shape}, not {kind}{shape}")
    tables = build_tables(histograms)
    for name, array in _flat(tables).items():
        if not np.array_equal(stored.get(f"tables.{name}", np.zeros(0)), array):
            raise TableError(f"{path}: the table {name} does not follow from the histograms")
    return tables


def _flat(tables: Tables) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {f.name: getattr(tables, f.name) for f in fields(tables)}
    joined = {"classes": tables.classes, "trellis": tables.trellis}
    return arrays | {name: np.concatenate(parts) for name, parts in joined.items()}
