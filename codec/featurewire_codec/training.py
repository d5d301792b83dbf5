"""Training of the universal tables: features of several models in, histograms of classes out.

Each source is transformed by profiles fitted on half of its samples; the other half is quantised at
every SNR and counted. The tables follow from the counts (`tables.build_tables`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .coefficients import Offsets, Side
from .entropy_model import GROUP_CLASS, GROUP_RAW_BITS
from .exponents import column_levels
from .feature import BOUNDS_OF_MANY, giant_bounds, pooled_energy
from .fitting import Arrays, codebook_sizes, column_offsets, fit_transforms
from .panels import Symbols, from_symbols
from .quantiser import (
    CENTROID_UNIT,
    midpoint_thresholds,
    rounding_thresholds,
    step_for,
    step_size,
)
from .span import Quantised, quantise_values
from .tables import (
    CENTROIDS,
    CLASSES,
    ESCAPE_LENGTHS,
    MAX_EXPONENT,
    MAX_RADIUS,
    Histograms,
    Tables,
    build_tables,
    class_radii,
    magnitude_bits,
    total,
)
from .transform import NO_INDEX, Geometry, Transform
from .trellis import TrellisSymbols, to_indices
from .trellis_costs import laplacian_costs, trellis_costs

# Steps as for these SNRs; those that are used count in full, the ends fill the extreme classes.
SNRS_DB = np.arange(-30.0, 62.5, 2.5)
USED_SNRS_DB = (5.0, 35.0)
USED_WEIGHT = 64
MAX_COUNTED = 1 << 20  # features of a source
ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Source:
    """Features of one model and split: samples float32[tokens, channels], all with one grid."""

    name: str
    samples: Arrays
    grid: tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class Prepared:
    """A source with its transforms fitted on half of the samples, and the other half to count."""

    source: Source
    counted: Arrays
    grid: tuple[int, int] | None
    energy: float
    ways: list[tuple[Transform, Offsets]]


def train_tables(sources: Sequence[Prepared]) -> list[Histograms]:
    """Count each source, in rounds: the rounding of one follows from the tables before it.

    The tables are those of the histograms' sum.
    """
    current: Tables | None = None
    counted: list[Histograms] = []
    for _ in range(ROUNDS):
        counted = [count_source(one, current) for one in sources]
        current = build_tables(total(counted))
    return counted


def prepare(source: Source) -> Prepared:
    """Fit the transforms that suit a source: block DCTs on a grid, else KLT and token codebook."""
    on_grid = source.grid is not None and len(source.samples) > 1
    if len(source.samples) > 1:
        fitted, counted = source.samples[::2], source.samples[1::2]
    else:
        pooled = source.samples[0]
        fitted, counted = [pooled[: len(pooled) // 2]], [pooled[len(pooled) // 2 :]]
    counted = counted[:: -(-sum(sample.size for sample in counted) // MAX_COUNTED)]
    grid = source.grid if on_grid else None
    scale = pooled_energy(fitted, giant_bounds(fitted, BOUNDS_OF_MANY))
    ways = []
    # One small codebook is enough: others leave residuals of the same kind.
    codebooks = [] if on_grid else codebook_sizes(sum(map(len, fitted)), fitted[0].shape[1])[-1:]
    for name, transform in fit_transforms(fitted, grid, scale, codebooks):
        if name not in ("identity", "one-sided") and name.startswith("dct") == on_grid:
            ways.append((transform, Offsets(column_offsets(transform, counted, grid))))
    return Prepared(source, counted, grid, scale, ways)


class Coded(NamedTuple):
    """One sample at one step: its panels' coefficients, and what each effort makes of them."""

    values: list[NDArray[np.float32]]
    step_exponent: int
    fast: Quantised
    trellis: Quantised


def count_source(prepared: Prepared, current: Tables | None) -> Histograms:
    """Count one source at every SNR; rounding is as `quantise_source` has it."""
    histograms = Histograms.zeros()
    for snr_db in SNRS_DB:
        weight = USED_WEIGHT if _is_used(snr_db) else 1
        for coded in quantise_source(prepared, current, snr_db):
            _count_side(histograms, coded.fast, weight)
            _count_indices(histograms, coded, weight)
            _count_paths(histograms, coded, weight)
    for sample in prepared.counted:
        count_columns(histograms, sample, prepared.energy)
    return histograms


def quantise_source(
    prepared: Prepared, current: Tables | None, snr_db: float, rows: bool = True
) -> Iterator[Coded]:
    """Quantise what is to be counted of a source, by each of its transforms.

    Rounding follows the bits of the `current` tables; without any, it is to the nearest index.
    Without `rows`, no row gets an exponent.
    """
    thresholds, costs = midpoint_thresholds(CLASSES), laplacian_costs()
    if current is not None:
        thresholds = rounding_thresholds(magnitude_bits(current), current.centroids)
        costs = trellis_costs(current)
    exponent = step_for(prepared.energy, snr_db)
    for transform, offsets in prepared.ways:
        for sample in prepared.counted:
            geometry, span = Geometry.of(sample, prepared.grid), range(len(sample))
            index = transform.search(sample)
            layout = transform.layout(geometry, span, index)
            assert layout is not None  # all of a sample is a span of every transform
            values = transform.forward(sample, geometry, span, index)
            side = Side(False, 0, index, NO_INDEX, NO_INDEX)
            fast, trellis = (
                quantise_values(values, layout, offsets, side, exponent, rounding, rows)
                for rounding in (thresholds, costs)
            )
            yield Coded(values, exponent, fast, trellis)


def escape_lengths(excess: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the escapes by the bit length, less one, of what is coded of each: int64[32]."""
    lengths = np.frexp((excess + 1).astype(np.float64))[1] - 1
    return np.bincount(lengths, minlength=ESCAPE_LENGTHS)


def row_exponents(side: Side) -> NDArray[np.int64]:
    """Count a sample's row exponents, none when all are zero and none is sent: int64[63]."""
    exponents = side.row_exponents if side.row_exponents.any() else NO_INDEX
    return np.bincount(exponents + MAX_EXPONENT, minlength=2 * MAX_EXPONENT + 1)


def _count_side(histograms: Histograms, coded: Quantised, weight: int) -> None:
    histograms.row_exponents[...] += weight * row_exponents(coded.side)
    histograms.escape_lengths[...] += weight * escape_lengths(coded.symbols.excess)


def _count_paths(histograms: Histograms, sample: Coded, weight: int) -> None:
    """Count what a trellis chose, as `_count_indices` does, but by table; without raw groups."""
    coded = sample.trellis
    assert isinstance(coded.symbols, TrellisSymbols)
    size = np.abs(to_indices(coded.symbols, class_radii()))
    tables = coded.symbols.tables.astype(np.int64)
    inside = coded.symbols.widths == 0 if len(coded.symbols.widths) else np.ones(len(size), bool)
    coarse = np.minimum(size, class_radii()[tables >> 1])
    cells = (tables * (MAX_RADIUS + 1) + coarse)[inside]
    counts = np.bincount(cells, minlength=2 * CLASSES * (MAX_RADIUS + 1))
    histograms.trellis_magnitudes[...] += weight * counts.reshape(CLASSES, 2, -1)
    in_order = zip(coded.panels, sample.values, strict=True)
    flat = np.concatenate([ladder.in_order(matrix).T.ravel() for (ladder, _), matrix in in_order])
    whole = inside & (size > 0)
    magnitude = np.abs(flat)[whole] * np.float32(1.0 / step_size(sample.step_exponent))
    place = size[whole] - (tables[whole] & 1) / 2
    beyond = np.floor((magnitude - place) * CENTROID_UNIT)
    cells = tables[whole] * CENTROIDS + np.minimum(size[whole], CENTROIDS - 1)
    sums = np.bincount(cells, beyond, minlength=2 * CLASSES * CENTROIDS).astype(np.int64)
    histograms.trellis_offsets[...] += weight * sums.reshape(CLASSES, 2, -1)


def _count_indices(histograms: Histograms, sample: Coded, weight: int) -> None:
    """Count the indices that thresholds chose, and how far the coefficients lie from them."""
    coded = sample.fast
    assert isinstance(coded.symbols, Symbols)
    indices = from_symbols(coded.symbols, coded.panels, class_radii())
    for matrix, found, (ladder, _) in zip(sample.values, indices, coded.panels, strict=True):
        _count_panel(histograms, ladder.in_order(matrix), *found, sample.step_exponent, weight)


def _count_panel(
    histograms: Histograms,
    values: NDArray[np.float32],
    index: NDArray[np.int64],
    groups: NDArray[np.uint8],
    step_exponent: int,
    weight: int,
) -> None:
    """Count indices [rows, columns] and how far the values lie from them; in coding order."""
    classes, raw = GROUP_CLASS[groups].astype(np.int64), GROUP_RAW_BITS[groups].astype(np.int64)
    size = np.abs(index)
    coarse = np.minimum((size + ((np.int64(1) << raw) >> 1)) >> raw, class_radii()[classes])
    cells = classes * (MAX_RADIUS + 1) + coarse
    counts = np.bincount(cells.ravel(), minlength=CLASSES * (MAX_RADIUS + 1))
    histograms.magnitudes[...] += weight * counts.reshape(CLASSES, -1)
    whole = (raw == 0) & (size > 0)
    magnitude = np.abs(values)[whole] * np.float32(1.0 / step_size(step_exponent))
    beyond = np.floor((magnitude - size[whole]) * CENTROID_UNIT)
    cells = classes[whole] * CENTROIDS + np.minimum(size[whole], CENTROIDS - 1)
    sums = np.bincount(cells, beyond, minlength=CLASSES * CENTROIDS).astype(np.int64)
    histograms.offsets[...] += weight * sums.reshape(CLASSES, -1)


def count_columns(histograms: Histograms, sample: NDArray[np.float32], scale: float) -> None:
    """Count the column exponents of one sample [tokens, channels], coded plainly."""
    for snr_db in used_snrs_db():
        step = np.sqrt(12.0 * scale * 10 ** (-snr_db / 10))
        magnitude = np.abs(sample) * np.float32(1.0 / step)
        exponents = column_levels(magnitude)[1]
        if exponents.any():
            histograms.column_exponents[...] += np.bincount(
                exponents + MAX_EXPONENT, minlength=2 * MAX_EXPONENT + 1
            )


def used_snrs_db() -> list[float]:
    """Return the SNRs that count in full, in dB."""
    return [float(snr_db) for snr_db in SNRS_DB if _is_used(snr_db)]


def _is_used(snr_db: float) -> bool:
    return USED_SNRS_DB[0] <= snr_db <= USED_SNRS_DB[1]
