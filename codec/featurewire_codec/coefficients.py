"""The integer half of the codec: the indices of a chunk in, the chunk out, and back.

Composes the entropy model, its tables and the entropy coder; BITSTREAM.md specifies every step.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bitstream import Chunk
from .entropy_coder import Model, RunDecoder, encode_runs, make_model, pack_fields, unpack_fields
from .entropy_model import (
    Symbols,
    classes_and_raw_bits,
    coding_order,
    escapes,
    from_symbols,
    levels,
    quarter_octave,
    to_symbols,
)
from .errors import BitstreamError
from .tables import CLASSES, MAX_EXPONENT, Tables, load_tables
from .transform import Layout


@dataclass(frozen=True, eq=False)
class Scales:
    """What says how large each coefficient of a chunk is expected to be.

    plain, base: as in `bitstream.Chunk`. layout: of the coefficients. offsets int32[n]: of each
    coefficient. column_exponents int32[columns] of a plain chunk (zero when none are sent), and
    row_exponents int32[rows].
    """

    plain: bool
    base: int
    layout: Layout
    offsets: NDArray[np.int32]
    column_exponents: NDArray[np.int32]
    row_exponents: NDArray[np.int32]

    def levels(self, step_exponent: int) -> NDArray[np.int32]:
        """Return the level int32[n] of each coefficient."""
        shift = self.base - quarter_octave(step_exponent)
        return levels(self.offsets, self.layout.row, self.row_exponents, shift)


def encode_indices(
    tokens: range, indices: NDArray[np.int32], scales: Scales, step_exponent: int
) -> Chunk:
    """Encode the indices int32[n] of a chunk: integers in, words and bit fields out."""
    tables, models = load_tables(), _models()
    classes, raw_bits = classes_and_raw_bits(scales.levels(step_exponent))
    order = coding_order(classes)
    counts = np.bincount(classes, minlength=CLASSES)
    raw_bits = raw_bits[order]
    parts = to_symbols(indices[order], raw_bits, np.repeat(tables.radii, counts))
    lengths = np.frexp((parts.excess + 1).astype(np.float64))[1].astype(np.int32)
    runs = []
    if scales.row_exponents.any():
        runs.append((scales.row_exponents + MAX_EXPONENT, models.rows))
    if scales.column_exponents.any():
        runs.append((scales.column_exponents + MAX_EXPONENT, models.columns))
    ends = np.cumsum(counts)
    for end, count, model in zip(ends, counts, models.classes, strict=True):
        runs.append((parts.symbols[end - count : end], model))
    runs.append((lengths - 1, models.escape_lengths))
    mantissa = parts.excess + 1 - (np.int64(1) << (lengths.astype(np.int64) - 1))
    return Chunk(
        tokens=tokens,
        plain=scales.plain,
        base=scales.base,
        row_exponents=bool(scales.row_exponents.any()),
        column_exponents=bool(scales.column_exponents.any()),
        words=encode_runs(runs),
        fields=pack_fields(
            np.concatenate([parts.low, mantissa]), np.concatenate([raw_bits, lengths - 1])
        ),
    )


def decode_indices(
    chunk: Chunk,
    layout: Layout,
    offsets: NDArray[np.int32] | None,
    step_exponent: int,
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Undo `encode_indices`: the indices int64[n] and their classes uint8[n].

    `offsets` int32[columns] are the profile's; None for a plain chunk.

    Raises:
        BitstreamError: the words or the bit fields do not end where they should.
    """
    tables, models = load_tables(), _models()
    decoder = RunDecoder(chunk.words)
    exponents = np.zeros(layout.rows, np.int32)
    if chunk.row_exponents:
        exponents = decoder.take(layout.rows, models.rows) - np.int32(MAX_EXPONENT)
    if offsets is None:
        columns = int(layout.column[-1]) + 1
        offsets = np.zeros(columns, np.int32)
        if chunk.column_exponents:
            offsets = decoder.take(columns, models.columns) - np.int32(MAX_EXPONENT)
    elif chunk.column_exponents:
        raise BitstreamError("column exponents in a chunk that is not plain")
    shift = chunk.base - quarter_octave(step_exponent)
    level = levels(offsets[layout.column], layout.row, exponents, shift)
    classes, raw_bits = classes_and_raw_bits(level)
    order = coding_order(classes)
    counts = np.bincount(classes, minlength=CLASSES)
    runs = zip(counts.tolist(), models.classes, strict=True)
    symbols = np.concatenate([decoder.take(count, model) for count, model in runs])
    radii = np.repeat(tables.radii, counts)
    escaped = int(escapes(symbols, radii).sum())
    lengths = decoder.take(escaped, models.escape_lengths)
    decoder.finish()
    raw_bits = raw_bits[order]
    fields = unpack_fields(chunk.fields, np.concatenate([raw_bits, lengths]))
    excess = fields[len(symbols) :] + (np.int64(1) << lengths.astype(np.int64)) - 1
    indices = np.empty(len(symbols), np.int64)
    indices[order] = from_symbols(Symbols(symbols, fields[: len(symbols)], excess), raw_bits, radii)
    return indices, classes


@dataclass(frozen=True, eq=False)
class _Models:
    rows: Model
    columns: Model
    classes: tuple[Model, ...]
    escape_lengths: Model


@functools.cache
def _models() -> _Models:
    tables: Tables = load_tables()
    return _Models(
        rows=make_model(tables.row_exponents),
        columns=make_model(tables.column_exponents),
        classes=tuple(make_model(table) for table in tables.classes),
        escape_lengths=make_model(tables.escape_lengths),
    )
