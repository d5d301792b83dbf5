"""How universal the tables are: for each source, those of all other models against its own.

Ideal code lengths of what the codec sends of a source's indices; nothing is coded.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .entropy_model import GROUP_CLASS, GROUP_RAW_BITS
from .panels import Symbols
from .span import Quantised
from .tables import (
    CLASSES,
    ESCAPE_LENGTHS,
    FREQUENCY_SUM,
    MAX_EXPONENT,
    MAX_RADIUS,
    Histograms,
    Tables,
    build_tables,
    class_radii,
    total,
)
from .training import Prepared, escape_lengths, quantise_source, row_exponents, used_snrs_db


class Universality(NamedTuple):
    """One source: bits a feature with the others' tables, and with its own ideal static ones.

    others: frozen tables of the other models, row exponents included.
    own: the entropy of the source's own indices in each class, no row exponents: what no frozen
    table of classes could beat without them.
    trellis_others, trellis_own: the same with a trellis, each class having a table for each of its
    two quantisers; None where the mode knows no trellis.
    learned: own static tables, counted on other samples of the source; None where that is not done.

    All have signs, escapes and raw low bits; neither headers nor codewords.
    """

    source: str
    others: float
    own: float
    trellis_others: float | None = None
    trellis_own: float | None = None
    learned: float | None = None


def leave_one_out(
    sources: Sequence[Prepared], counted: Sequence[Histograms], current: Tables
) -> list[Universality]:
    """Measure every source against tables of the other models' sources, over the SNRs used most.

    `counted` are the sources' histograms as the last round of training left them; all are rounded
    as `current` tables, of all sources, have it.
    """
    rows = []
    pairs = list(zip(sources, counted, strict=True))
    for one in sources:
        model = model_of(one.source.name)
        tables = build_tables(total([h for s, h in pairs if model_of(s.source.name) != model]))
        frozen, static = (_count(one, current, rows=sent) for sent in (True, False))
        figures = []
        for effort, classes in enumerate((tables.classes, tables.trellis)):
            figures.append(frozen_bits(frozen[effort], classes, tables))
            figures.append(own_bits(static[effort]))
        rows.append(Universality(one.source.name, *figures))
    return rows


def model_of(name: str) -> str:
    """Return the model that a source is of: its file's name before the first dot."""
    return Path(name).name.split(".")[0]


class Counts:
    """What one effort sends of a source.

    magnitudes int64[tables, 128]: symbols by their table and distance from zero; a trellis's tables
        are at 2 * class + quantiser. escape_lengths int64[32], row_exponents int64[63]: as in
        `Histograms`. raw_bits: the low bits of indices beyond the classes.
    """

    def __init__(self, tables: int) -> None:
        self.magnitudes = np.zeros((tables, MAX_RADIUS + 1), np.int64)
        self.escape_lengths = np.zeros(ESCAPE_LENGTHS, np.int64)
        self.row_exponents = np.zeros(2 * MAX_EXPONENT + 1, np.int64)
        self.raw_bits = 0

    def add(self, coded: Quantised) -> None:
        """Count a sample."""
        if isinstance(coded.symbols, Symbols):
            tables = np.repeat(GROUP_CLASS, coded.symbols.counts).astype(np.int64)
            classes = tables
            self.raw_bits += int(coded.symbols.counts @ GROUP_RAW_BITS.astype(np.int64))
        else:
            tables = coded.symbols.tables.astype(np.int64)
            classes = tables >> 1
            self.raw_bits += int(coded.symbols.widths.sum(dtype=np.int64))
        magnitudes = np.abs(coded.symbols.symbols - class_radii()[classes])
        cells = tables * (MAX_RADIUS + 1) + magnitudes
        self.magnitudes.ravel()[:] += np.bincount(cells, minlength=self.magnitudes.size)
        self.escape_lengths += escape_lengths(coded.symbols.excess)
        self.row_exponents += row_exponents(coded.side)


def _count(prepared: Prepared, current: Tables, rows: bool) -> tuple[Counts, Counts]:
    """Count a source, fast and with a trellis; without `rows`, no row gets an exponent."""
    fast, trellis = Counts(CLASSES), Counts(2 * CLASSES)
    for snr_db in used_snrs_db():
        for coded in quantise_source(prepared, current, snr_db, rows):
            fast.add(coded.fast)
            trellis.add(coded.trellis)
    return fast, trellis


def frozen_bits(counts: Counts, classes: Sequence[NDArray[np.uint32]], tables: Tables) -> float:
    """Return the bits a feature with frozen tables, `classes` being those of the effort."""
    bits = float(counts.raw_bits + counts.escape_lengths @ np.arange(ESCAPE_LENGTHS))
    for frequencies, seen in zip(classes, counts.magnitudes, strict=True):
        radius = len(frequencies) // 2
        bits += float(seen[: radius + 1] @ np.log2(FREQUENCY_SUM / frequencies[radius:]))
    bits += float(counts.escape_lengths @ np.log2(FREQUENCY_SUM / tables.escape_lengths))
    bits += float(counts.row_exponents @ np.log2(FREQUENCY_SUM / tables.row_exponents))
    return bits / float(counts.magnitudes.sum())


def own_bits(counts: Counts) -> float:
    """Return the bits a feature with ideal tables of these counts; a sign is a bit."""
    bits = float(counts.raw_bits + counts.escape_lengths @ np.arange(ESCAPE_LENGTHS))
    bits += entropy(counts.escape_lengths) + float(counts.magnitudes[:, 1:].sum())
    bits += sum(map(entropy, counts.magnitudes))
    return bits / float(counts.magnitudes.sum())


def entropy(counts: NDArray[np.int64]) -> float:
    """Return the bits of all that is counted, with the ideal table of these counts."""
    seen = counts[counts > 0].astype(np.float64)
    return float(seen @ np.log2(seen.sum() / seen)) if len(seen) else 0.0
