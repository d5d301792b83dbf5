"""How universal the tables are: for each source, those of all other models against its own.

Counts in, ideal code lengths out: nothing is coded again.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .tables import FREQUENCY_SUM, Histograms, Tables, build_tables, class_radii, total
from .training import Prepared, count_source


class Universality(NamedTuple):
    """One source: bits a feature with the others' tables, and with its own ideal static ones.

    others: frozen tables of the other models, row exponents and escapes included.
    own: the entropy of the source's own indices in each class, no row exponents: what no frozen
    table of classes could beat without them.
    """

    source: str
    others: float
    own: float


def leave_one_out(
    sources: Sequence[Prepared], counted: Sequence[Histograms], current: Tables
) -> list[Universality]:
    """Measure every source against tables of the other models' sources.

    `counted` are the sources' histograms as the last round of training left them; all are rounded
    as `current` tables, of all sources, have it.
    """
    rows = []
    pairs = list(zip(sources, counted, strict=True))
    for one, own in pairs:
        model = model_of(one.source.name)
        tables = build_tables(total([h for s, h in pairs if model_of(s.source.name) != model]))
        static = count_source(one, current, rows=False)
        features = float(own.magnitudes.sum())
        others = _frozen_bits(own, tables) / features
        rows.append(Universality(one.source.name, others, _own_bits(static) / features))
    return rows


def model_of(name: str) -> str:
    """Return the model that a source is of: its file's name before the first dot."""
    return Path(name).name.split(".")[0]


def _frozen_bits(counts: Histograms, tables: Tables) -> float:
    """Return the bits of counted indices, escapes and row exponents with these tables."""
    bits = 0.0
    classes = zip(class_radii(), tables.classes, counts.magnitudes, strict=True)
    for radius, frequencies, seen in classes:
        cost = np.log2(FREQUENCY_SUM / frequencies[radius:])
        bits += float(seen[: radius + 1] @ cost)
    lengths = np.log2(FREQUENCY_SUM / tables.escape_lengths) + np.arange(len(tables.escape_lengths))
    bits += float(counts.escape_lengths @ lengths)
    return bits + float(counts.row_exponents @ np.log2(FREQUENCY_SUM / tables.row_exponents))


def _own_bits(counts: Histograms) -> float:
    """Return the bits of counted indices with the source's own ideal table of each class."""
    bits = 0.0
    for seen in counts.magnitudes.astype(np.float64):
        used = seen[seen > 0]
        bits += float((used * np.log2(seen.sum() / used)).sum()) + float(seen[1:].sum())
    lengths = counts.escape_lengths.astype(np.float64)
    used = lengths[lengths > 0]
    bits += float((used * np.log2(lengths.sum() / used)).sum()) if len(used) else 0.0
    return bits + float(lengths @ np.arange(len(lengths)))
