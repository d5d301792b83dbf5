"""The one-sided mode's place among the transforms: none at all, over whole rows of the grid."""

import functools
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .one_sided import COARSEST, Pass, passes
from .one_sided_chunk import Walk
from .one_sided_weights import ChannelWeights
from .transform import (
    NO_INDEX,
    Floats,
    Geometry,
    Identity,
    Index,
    ranges_between,
    token_spans,
)

_MOST_KNOWN = 1 << 16  # tokens of a span whose passes are kept


class OneSided(Identity):
    """Values are coded as they are, by contexts that `one_sided` makes of what is decoded already.

    For features that are never below zero; what is, becomes zero.
    """

    mode: ClassVar[str] = "one-sided"

    def __init__(self, weights: ChannelWeights) -> None:
        """`weights` are what predicts one channel from its neighbours and the other channels."""
        super().__init__(np.zeros(len(weights.order), np.float32))
        self.weights = weights

    def holds(self, feature: Floats, step: float) -> bool:
        """Whether no value is so far below zero that it must not become zero."""
        return float(feature.min(initial=0.0)) >= -0.5 * step

    def spans(self, geometry: Geometry, features: int) -> list[range]:
        """Cut the tokens into spans of whole rows of the grid, of about `features` values each."""
        if geometry.grid is None:
            return token_spans(geometry, features)
        rows, columns = geometry.grid
        most = max(1, features // (columns * geometry.channels))
        most -= most % COARSEST if most > COARSEST else 0  # so that no pass is cut
        cuts = [geometry.prefix + row * columns for row in range(most, rows, most)]
        return ranges_between([0, *cuts, geometry.tokens])

    def walk(
        self, geometry: Geometry, span: range, offsets: NDArray[np.int32], step_exponent: int
    ) -> Walk | None:
        """Say how a span is coded; None when no span may begin or end there."""
        listed = passes_of(geometry, span)
        return Walk(listed, offsets, step_exponent, self.weights) if listed is not None else None

    def forward(
        self, feature: Floats, geometry: Geometry, span: range, index: Index = NO_INDEX
    ) -> list[Floats]:
        """Return the tokens [len(span), channels] of a span as they are."""
        return [feature]


def passes_of(geometry: Geometry, span: range) -> list[Pass] | None:
    """List the passes over a span; None when it does not begin and end with rows of the grid."""
    # 20 bytes a token: what a peer declares must not fill the memory that is kept
    known = _known_passes if len(span) <= _MOST_KNOWN else _passes_of
    return known(geometry, span)


def _passes_of(geometry: Geometry, span: range) -> list[Pass] | None:
    prefix = geometry.prefix if span.start == 0 else 0
    columns = geometry.grid[1] if geometry.grid else 1
    before, inside = span.start - geometry.prefix, len(span) - prefix
    if geometry.grid is None:
        return passes(len(span), 0, 0)
    if inside < 0 or inside % columns or (span.start and (before < 0 or before % columns)):
        return None
    return passes(prefix, inside // columns, columns)


_known_passes = functools.lru_cache(maxsize=16)(_passes_of)
