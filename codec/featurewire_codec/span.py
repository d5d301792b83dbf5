"""One chunk's worth of a feature: coefficients in, symbols out; and their reconstruction.

Ways to code a span are a profile's and the plain one; both choose exponents and quantise here.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .backend import load_backend
from .coefficients import Offsets, Side, index_table, plain_offsets
from .entropy_coder import Table
from .entropy_model import quarter_octave
from .exponents import column_levels, expectation, row_exponents
from .panels import PanelShape, Symbols
from .profile import Profile
from .quantiser import BIT_WORTH, Effort, midpoint_thresholds, rounding_thresholds, step_size
from .tables import CLASSES, class_radii, load_tables, magnitude_bits
from .transform import NO_INDEX, Floats, Geometry, Layout, plain_transform
from .trellis import TrellisCosts, TrellisSymbols
from .trellis_costs import TRELLIS_BIT_WORTH, trellis_costs

Rounding = NDArray[np.float32] | TrellisCosts  # how indices are chosen: thresholds, or a search


@dataclass(frozen=True, eq=False)
class Coding:
    """A profile as the encoder and the decoder use it: its offsets and codewords, prepared."""

    profile: Profile
    offsets: Offsets
    index_table: Table | None

    @classmethod
    def of(cls, profile: Profile) -> "Coding":
        """Prepare a profile."""
        counts = profile.transform.counts
        table = None if counts is None else index_table(counts)
        return cls(profile, Offsets(profile.offsets), table)


@dataclass(frozen=True, eq=False)
class Quantised:
    """A span's symbols, with what else is sent and the panels' shapes."""

    symbols: Symbols | TrellisSymbols
    side: Side
    panels: list[PanelShape]


def quantise_values(
    values: list[Floats],
    layout: Layout,
    offsets: Offsets,
    side: Side,
    step_exponent: int,
    rounding: Rounding,
) -> Quantised:
    """Choose the rows' exponents and quantise the coefficients of each panel.

    Raises:
        FeatureError: a coefficient is too many steps from zero.
    """
    backend = load_backend()
    panels = backend.panels
    activity, total = np.empty(layout.rows, np.int64), np.empty(layout.rows, np.float64)
    for panel, matrix in zip(layout.panels, values, strict=True):
        ladder = offsets.ladder(panel.columns)
        expected = expectation(ladder, side.base, step_exponent)
        activity[panel.rows] = panels.activity(matrix, ladder, expected.inverse, expected.weight)
        total[panel.rows] = expected.total
    rows = row_exponents(activity, total)
    side = Side(side.plain, side.base, side.index, rows, side.column_exponents)
    shapes = offsets.panels(layout, side.shifts(step_exponent))
    inverse_step = 1.0 / step_size(step_exponent)
    inputs = [(matrix, *shape) for matrix, shape in zip(values, shapes, strict=True)]
    loops = backend.trellis if isinstance(rounding, TrellisCosts) else panels
    symbols = loops.quantise(inputs, inverse_step, rounding, class_radii())
    return Quantised(symbols, side, shapes)


def quantise_plain(feature: Floats, step_exponent: int, rounding: Rounding) -> Quantised:
    """Quantise the tokens [tokens, channels] of a span without a profile."""
    magnitude = np.abs(feature) * np.float32(1.0 / step_size(step_exponent))
    level, columns = column_levels(magnitude)
    columns = columns if columns.any() else columns[:0]
    layout = plain_transform(feature.shape[1]).layout(Geometry.of(feature), range(len(feature)))
    side = Side(True, level + quarter_octave(step_exponent), NO_INDEX, NO_INDEX, columns)
    offsets = plain_offsets(feature.shape[1], columns)
    return quantise_values([feature], layout, offsets, side, step_exponent, rounding)


def rebuild(
    symbols: Symbols | TrellisSymbols,
    panels: list[PanelShape],
    step_exponent: int,
    midpoint: bool = False,
) -> list[Floats]:
    """Return the coefficients that the decoder makes of the symbols, panel by panel."""
    tables, backend = load_tables(), load_backend()
    loops, centroids = backend.panels, tables.centroids
    if isinstance(symbols, TrellisSymbols):
        loops, centroids = backend.trellis, tables.trellis_centroids
    centroids = np.zeros_like(centroids) if midpoint else centroids
    step = step_size(step_exponent)
    parts: list[Floats] = loops.dequantise(symbols, panels, step, tables.radii, centroids)
    return parts


def rounding_for(effort: Effort, bit_worth: float | None = BIT_WORTH) -> Rounding:
    """Return how an encoder that makes this effort chooses indices, at a worth of a bit."""
    if effort == "trellis":
        return _trellis_costs_for(TRELLIS_BIT_WORTH / BIT_WORTH * (bit_worth or 0.0))
    return thresholds_for(bit_worth)


@functools.lru_cache(maxsize=32)
def _trellis_costs_for(bit_worth: float) -> TrellisCosts:
    return trellis_costs(load_tables(), bit_worth)


@functools.lru_cache(maxsize=32)
def thresholds_for(bit_worth: float | None) -> NDArray[np.float32]:
    """Return the rounding thresholds for a worth of a bit; None rounds to the nearest index."""
    if bit_worth is None:
        return midpoint_thresholds(CLASSES)
    tables = load_tables()
    return rounding_thresholds(magnitude_bits(tables), tables.centroids, bit_worth)
