"""Training of the universal tables: features of several models in, histograms of classes out.

Each source is transformed by profiles fitted on half of its samples; the other half is quantised at
every SNR and counted. The tables follow from the counts (`tables.build_tables`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration import Arrays, column_offsets, fit_transforms
from .entropy_model import classes_and_raw_bits, levels, quarter_octave
from .exponents import column_levels, row_exponents
from .feature import energy
from .quantiser import CENTROID_UNIT, nearest_step_exponent, quantise, step_size
from .tables import CENTROIDS, CLASSES, MAX_EXPONENT, MAX_RADIUS, Histograms, class_radii
from .transform import Geometry, Layout

# Steps as for these SNRs; those that are used count in full, the ends fill the extreme classes.
SNRS_DB = np.arange(-30.0, 62.5, 2.5)
USED_SNRS_DB = (5.0, 35.0)
USED_WEIGHT = 64
MAX_SAMPLES = 64


@dataclass(frozen=True, eq=False)
class Source:
    """Features of one model and split: samples float32[tokens, channels], all with one grid."""

    name: str
    samples: Arrays
    grid: tuple[int, int] | None


def count_source(histograms: Histograms, source: Source) -> None:
    """Count one source, by the transforms that suit it: block DCTs on a grid, else the KLT."""
    on_grid = source.grid is not None and len(source.samples) > 1
    if len(source.samples) > 1:
        fitted, counted = source.samples[::2], source.samples[1::2]
    else:
        pooled = source.samples[0]
        fitted, counted = [pooled[: len(pooled) // 2]], [pooled[len(pooled) // 2 :]]
    counted = counted[:: -(-len(counted) // MAX_SAMPLES)]
    grid = source.grid if on_grid else None
    scale = energy(np.concatenate(fitted))
    for name, transform in fit_transforms(fitted, grid):
        if name == "identity" or (on_grid and name == "klt"):
            continue
        offsets = column_offsets(transform, counted, grid)
        for sample in counted:
            geometry = Geometry.of(sample, grid)
            layout = transform.layout(geometry, range(len(sample)))
            assert layout is not None  # all of a sample is a span of every transform
            values = transform.forward(sample, geometry, range(len(sample)))
            count_sample(histograms, values, layout, offsets, scale)
    for sample in counted:
        count_columns(histograms, sample, scale)


def count_sample(
    histograms: Histograms,
    values: NDArray[np.float32],
    layout: Layout,
    offsets: NDArray[np.int32],
    scale: float,
) -> None:
    """Count the coefficients float32[n] of one sample at every SNR."""
    radii = class_radii()
    for snr_db in SNRS_DB:
        step_exponent = nearest_step_exponent(float(np.sqrt(12.0 * scale * 10 ** (-snr_db / 10))))
        weight = USED_WEIGHT if _is_used(snr_db) else 1
        magnitude = np.abs(values) * np.float32(1.0 / step_size(step_exponent))
        own, shift = offsets[layout.column], -quarter_octave(step_exponent)
        level = levels(own, layout.row, np.zeros(layout.rows, np.int32), shift)
        exponents = row_exponents(magnitude, level, layout.row, layout.rows)
        level = levels(own, layout.row, exponents, shift)
        classes, raw_bits = classes_and_raw_bits(level)
        index = np.abs(quantise(values, step_exponent)).astype(np.int64)
        half = (np.int64(1) << raw_bits) >> 1
        coarse = (index + half) >> raw_bits
        radius = radii[classes]
        column = np.minimum(coarse, radius)
        cell = classes.astype(np.int64) * (MAX_RADIUS + 1) + column
        counts = np.bincount(cell, minlength=CLASSES * (MAX_RADIUS + 1))
        histograms.magnitudes[...] += weight * counts.reshape(CLASSES, -1)
        beyond = coarse[coarse >= radius] - radius[coarse >= radius]
        lengths = np.minimum(np.frexp((beyond + 1).astype(np.float64))[1] - 1, 31)
        histograms.escape_lengths[...] += weight * np.bincount(lengths, minlength=32)
        if exponents.any():
            exponents = exponents + MAX_EXPONENT
            histograms.row_exponents[...] += weight * np.bincount(exponents, minlength=63)
        whole = (raw_bits == 0) & (index > 0)
        offset = np.floor((magnitude[whole] - index[whole]) * CENTROID_UNIT)
        cell = classes[whole].astype(np.int64) * CENTROIDS + np.minimum(index[whole], CENTROIDS - 1)
        sums = np.bincount(cell, offset, minlength=CLASSES * CENTROIDS).astype(np.int64)
        histograms.offsets[...] += weight * sums.reshape(CLASSES, -1)


def count_columns(histograms: Histograms, sample: NDArray[np.float32], scale: float) -> None:
    """Count the column exponents of one sample [tokens, channels], coded plainly."""
    for snr_db in filter(_is_used, SNRS_DB):
        step = np.sqrt(12.0 * scale * 10 ** (-snr_db / 10))
        magnitude = np.abs(sample) * np.float32(1.0 / step)
        exponents = column_levels(magnitude)[1]
        if exponents.any():
            histograms.column_exponents[...] += np.bincount(
                exponents + MAX_EXPONENT, minlength=2 * MAX_EXPONENT + 1
            )


def _is_used(snr_db: float) -> bool:
    return USED_SNRS_DB[0] <= snr_db <= USED_SNRS_DB[1]
