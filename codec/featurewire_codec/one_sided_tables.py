"""The frozen numbers of the one-sided mode: weights, the cells' classes, and the tables.

`one_sided_tables.safetensors` ships the parameters and the class histograms counted with them; the
tables follow from the histograms, bit for bit, integers only.
"""

import functools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import TableError
from .tables import CENTROIDS, FREQUENCY_SUM, to_frequencies

CLASSES = 128
SHAPES = 2  # of distributions; each channel has one
ZEROS = 4  # what the neighbours are: none known, none zero, some, all
PREDICTIONS, ERRORS = 64, 32  # levels of a predicted value and of its expected error
KINDS = 7  # of passes
ALPHABET = 128  # indices 0 .. 127; a class's last symbol escapes
MIN_RADIUS = 3
LENGTH_BITS = 5  # of an escape: how many bits its excess has below the highest
_ESCAPES = 1 << 11  # at most one index in so many is beyond a class's alphabet
_PRIOR_COUNT = 64
FILE = Path(__file__).with_name("one_sided_tables.safetensors")


@dataclass(frozen=True, eq=False)
class Parameters:
    """What predicts and which table codes; fitted once on several networks' features.

    octave int32[32]: 2^(i/32) in 2^-16. value int32[7, 1, 4], error int32[7, 5], refined
    int32[7, 4]: weights by kind of pass, in 2^-10. value_bounds int32[63], error_bounds int32[31]:
    where the levels begin, in 1/64 step. classes uint8[2, 4, 64, 32]: the table of
    each cell, by the channel's shape, the neighbours' zeros, prediction and error.
    """

    octave: NDArray[np.int32]
    value: NDArray[np.int32]
    error: NDArray[np.int32]
    refined: NDArray[np.int32]
    value_bounds: NDArray[np.int32]
    error_bounds: NDArray[np.int32]
    classes: NDArray[np.uint8]


_PARAMETERS: dict[str, tuple[tuple[int, ...], Any]] = {
    "octave": ((32,), np.int32),
    "value": ((KINDS, 1, 4), np.int32),
    "error": ((KINDS, 5), np.int32),
    "refined": ((KINDS, 4), np.int32),
    "value_bounds": ((PREDICTIONS - 1,), np.int32),
    "error_bounds": ((ERRORS - 1,), np.int32),
    "classes": ((SHAPES, ZEROS, PREDICTIONS, ERRORS), np.uint8),
}
_HISTOGRAMS: dict[str, tuple[tuple[int, ...], Any]] = {
    "indices": ((CLASSES, ALPHABET), np.int64),
    "offsets": ((CLASSES, CENTROIDS), np.int64),
}


@dataclass(frozen=True, eq=False)
class Histograms:
    """What training counts.

    indices int64[128, 128]: by class and index, the last column with everything beyond.
    offsets int64[128, 4]: by class and min(index, 3), the sum of value in steps - index, in 1/256.
    """

    indices: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def zeros(cls) -> "Histograms":
        """Return empty histograms to count into."""
        return cls(**{name: np.zeros(shape, kind) for name, (shape, kind) in _HISTOGRAMS.items()})


@dataclass(frozen=True, eq=False)
class Tables:
    """The frozen tables.

    radii int32[128]: the last symbol of each class, an escape. classes: for each class,
    uint32[radius + 1] frequencies that sum to 2^14. centroids int8[128, 4]: where in its step index
    0, 1, 2 and more lies, in 1/256.
    """

    radii: NDArray[np.int32]
    classes: tuple[NDArray[np.uint32], ...]
    centroids: NDArray[np.int8]


def build_tables(histograms: Histograms) -> Tables:
    """Build the tables from the histograms: deterministic, integers only.

    Raises:
        TableError: a class was never seen.
    """
    radii, classes = [], []
    for counts in histograms.indices:
        beyond = counts[::-1].cumsum()[::-1]  # [r]: how many indices are r or more
        rare = np.flatnonzero(beyond * _ESCAPES <= beyond[0])
        radius = max(MIN_RADIUS, int(rare[0]) if len(rare) else ALPHABET - 1)
        weights = np.append(counts[:radius], beyond[radius])
        radii.append(radius)
        classes.append(to_frequencies(weights, spare=int(weights.argmax())))
    seen = histograms.indices
    many = np.concatenate([seen[:, :3], seen[:, 3:].sum(1, keepdims=True)], axis=1)
    centroids = np.clip(histograms.offsets // (many + _PRIOR_COUNT), -127, 127)
    return Tables(np.array(radii, np.int32), tuple(classes), centroids.astype(np.int8))


def index_bits(tables: Tables) -> NDArray[np.float64]:
    """Return float64[128, 5]: what the indices 0 to 4 cost in each class."""
    bits = np.empty((CLASSES, 5))
    for number, (radius, frequencies) in enumerate(zip(tables.radii, tables.classes, strict=True)):
        places = np.minimum(np.arange(5), radius)
        bits[number] = np.log2(FREQUENCY_SUM) - np.log2(frequencies[places])
    return bits


def save_one_sided(parameters: Parameters, histograms: Histograms, path: Path) -> None:
    """Write the parameters, the histograms and the tables built from them to one file."""
    from safetensors.numpy import save_file

    tensors = {f"parameters.{f.name}": getattr(parameters, f.name) for f in fields(parameters)}
    tensors |= {f"histograms.{f.name}": getattr(histograms, f.name) for f in fields(histograms)}
    tables = build_tables(histograms)
    save_file(tensors | {f"tables.{name}": array for name, array in _flat(tables).items()}, path)


@functools.cache
def load_one_sided(path: Path = FILE) -> tuple[Parameters, Tables]:
    """Read the parameters and tables of `path`, by default the frozen ones.

    Raises:
        TableError: the file is damaged, or its tables do not follow from its histograms.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        stored = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TableError(f"{path} holds no one-sided tables: {error}") from error
    parameters = Parameters(**_read(stored, "parameters", _PARAMETERS, path))
    tables = build_tables(Histograms(**_read(stored, "histograms", _HISTOGRAMS, path)))
    for name, array in _flat(tables).items():
        if not np.array_equal(stored.get(f"tables.{name}", np.zeros(0)), array):
            raise TableError(f"{path}: the table {name} does not follow from the histograms")
    return parameters, tables


def _read(
    stored: dict[str, NDArray[Any]],
    part: str,
    shapes: dict[str, tuple[tuple[int, ...], Any]],
    path: Path,
) -> dict[str, NDArray[Any]]:
    arrays = {}
    for name, (shape, kind) in shapes.items():
        array = stored.get(f"{part}.{name}", np.zeros(0))
        if array.shape != shape or array.dtype != kind:
            raise TableError(f"{path}: {part}.{name} is {array.dtype}{array.shape}, not {shape}")
        arrays[name] = array
    return arrays


def _flat(tables: Tables) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {f.name: getattr(tables, f.name) for f in fields(tables)}
    return arrays | {"classes": np.concatenate(tables.classes)}
