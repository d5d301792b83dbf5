"""One chunk's worth of a feature: coefficients in, symbols out; and their reconstruction.

Ways to code a span are a profile's and the plain one; both choose exponents and quantise here.
"""

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .adaptation import SIZE_LIMIT, AdaptiveCodebook, fixed_point
from .backend import load_backend
from .bitstream import DIGEST_BYTES
from .codebook import TokenCodebook
from .coefficients import Offsets, Side, index_table, plain_offsets
from .entropy_coder import Table
from .entropy_model import quarter_octave
from .exponents import column_levels, expectation, row_exponents
from .panels import PanelShape, Symbols
from .profile import Profile
from .quantiser import (
    BIT_WORTH,
    CENTROID_UNIT,
    Effort,
    midpoint_thresholds,
    rounding_thresholds,
    step_size,
)
from .tables import CLASSES, class_radii, load_tables, magnitude_bits
from .transform import NO_INDEX, Floats, Geometry, Layout, Transform, plain_transform
from .trellis import TrellisCosts, TrellisSymbols
from .trellis_costs import TRELLIS_BIT_WORTH, trellis_costs

Rounding = NDArray[np.float32] | TrellisCosts  # how indices are chosen: thresholds, or a search


class Coding:
    """A profile as the encoder and the decoder use it: its offsets and codewords, prepared.

    With `adaptive`, the codewords are a session's: they change with each chunk that is learned.
    """

    def __init__(self, profile: Profile, adaptive: bool = False) -> None:
        """Only token codebooks adapt; with any other transform, `adaptive` says nothing."""
        self.profile = profile
        self.digest = bytes.fromhex(profile.digest)[:DIGEST_BYTES]
        self.offsets = Offsets(profile.offsets)
        self.transform: Transform = profile.transform
        self.updates = 0
        self.unfinished = False
        """An encoding that has taught the codewords did not come to its end."""
        self._memory: AdaptiveCodebook | None = None
        self._table: Table | None = None
        if adaptive and isinstance(profile.transform, TokenCodebook):
            self.transform = self._memory = AdaptiveCodebook(profile.transform)

    @property
    def adaptive(self) -> bool:
        """Whether the codewords change."""
        return self._memory is not None

    @property
    def index_table(self) -> Table | None:
        """The table of the codewords' index; None without a codebook."""
        if self._table is None and self.transform.counts is not None:
            self._table = index_table(self.transform.counts)
        return self._table

    def learn(self, coded: "Quantised", step_exponent: int) -> None:
        """Update the session's codewords from a chunk, as both sides have it."""
        if self._memory is None:
            return
        units = rebuild_units(coded.symbols, coded.panels)
        index = coded.side.index
        bounded = np.clip(self._memory.assembled(units, index), -SIZE_LIMIT, SIZE_LIMIT)
        residual = np.rint(bounded).astype(np.int64)  # unbounded ones can be beyond 2^63
        self._memory.update(index, fixed_point(residual, step_exponent, self._memory.unit))
        self.updates, self._table = self.updates + 1, None

    def reset(self) -> None:
        """Go back to the profile's own codewords."""
        if self._memory is not None and self.updates:
            self._memory.reset()
            self.updates, self._table = 0, None


class Quantised(NamedTuple):
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
    exponents: bool = True,
) -> Quantised:
    """Choose the rows' exponents, if they may have any, and quantise the panels' coefficients.

    Raises:
        FeatureError: a coefficient is too many steps from zero.
    """
    if exponents:
        rows = row_exponents(*_measure(values, layout, offsets, side.base, step_exponent))
    else:
        rows = np.zeros(layout.rows, np.int32)
    side = Side(side.plain, side.base, side.index, rows, side.column_exponents)
    shapes = offsets.panels(layout, side.shifts(step_exponent))
    inverse_step = 1.0 / step_size(step_exponent)
    inputs = [(matrix, *shape) for matrix, shape in zip(values, shapes, strict=True)]
    backend = load_backend()
    loops = backend.trellis if isinstance(rounding, TrellisCosts) else backend.panels
    symbols = loops.quantise(inputs, inverse_step, rounding, class_radii())
    return Quantised(symbols, side, shapes)


def _measure(
    values: list[Floats], layout: Layout, offsets: Offsets, base: int, step_exponent: int
) -> tuple[NDArray[np.int64], NDArray[np.float64] | float]:
    """Return the rows' activity and the sums of their weights, for `row_exponents`."""
    found = []
    for panel, matrix in zip(layout.panels, values, strict=True):
        ladder = offsets.ladder(panel.columns)
        expected = expectation(ladder, base, step_exponent)
        inverse, weight = expected.inverse, expected.weight
        activity = load_backend().panels.activity(matrix, ladder, inverse, weight)
        found.append((activity, expected.total))
    if len(found) == 1:  # it has all rows
        return found[0]
    activity, total = np.empty(layout.rows, np.int64), np.empty(layout.rows, np.float64)
    for panel, (own, weights) in zip(layout.panels, found, strict=True):
        activity[panel.rows], total[panel.rows] = own, weights
    return activity, total


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
    return _rebuild(symbols, panels, step_size(step_exponent), midpoint)


def rebuild_units(symbols: Symbols | TrellisSymbols, panels: list[PanelShape]) -> list[Floats]:
    """Return the same in 1/256 of a step, which no float rounds below 2^24."""
    return _rebuild(symbols, panels, float(CENTROID_UNIT), midpoint=False)


def _rebuild(
    symbols: Symbols | TrellisSymbols, panels: list[PanelShape], step: float, midpoint: bool
) -> list[Floats]:
    tables, backend = load_tables(), load_backend()
    loops, centroids = backend.panels, tables.centroids
    if isinstance(symbols, TrellisSymbols):
        loops, centroids = backend.trellis, tables.trellis_centroids
    if midpoint:
        centroids = _no_centroids(centroids.shape)
    parts: list[Floats] = loops.dequantise(symbols, panels, step, tables.radii, centroids)
    return parts


@functools.cache
def _no_centroids(shape: tuple[int, ...]) -> NDArray[np.int8]:
    return np.zeros(shape, np.int8)


def rounding_for(effort: Effort, bit_worth: float | None = BIT_WORTH) -> Rounding:
    """Return how an encoder that makes this effort chooses indices, at a worth of a bit."""
    if effort == "trellis":
        return _trellis_costs_for(squared_steps_for(effort, bit_worth))
    return thresholds_for(bit_worth)


def squared_steps_for(effort: Effort, bit_worth: float | None) -> float:
    """Return how much squared error, in squared steps, a bit may cost an encoder; None is none."""
    scale = TRELLIS_BIT_WORTH / BIT_WORTH if effort == "trellis" else 1.0
    return scale * (bit_worth or 0.0)


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
