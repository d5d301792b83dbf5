"""The transforms are orthonormal and inverse to themselves, on every grid and span."""

import numpy as np
import pytest
from featurewire_codec.block_dct import BlockDct
from featurewire_codec.transform import ChannelKlt, Geometry, Identity


def orthogonal(*shape: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(0).normal(size=shape))[0].astype(np.float32)


MEAN = np.linspace(-3, 3, 5, dtype=np.float32)
TRANSFORMS = [
    Identity(MEAN),
    ChannelKlt(MEAN, orthogonal(5, 5)),
    BlockDct(MEAN, 2 * MEAN, orthogonal(1, 5, 5), 8),
    BlockDct(MEAN, 2 * MEAN, orthogonal(16, 5, 5), 4),
]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("grid", [(1, 1), (8, 8), (9, 17), (37, 37), (3, 40)])
@pytest.mark.parametrize("prefix", [0, 3])
def test_spans_cover_the_tokens_and_round_trip(transform, grid, prefix):
    geometry = Geometry(prefix + grid[0] * grid[1], 5, grid)
    feature = np.random.default_rng(1).normal(size=(geometry.tokens, 5)).astype(np.float32)
    stop = 0
    for span in transform.spans(geometry, 500):
        assert span.start == stop
        stop = span.stop
        part = feature[span.start : span.stop]
        coefficients = transform.forward(part, geometry, span)
        layout = transform.layout(geometry, span)
        assert len(layout.row) == len(layout.column) == len(coefficients) == part.size
        assert layout.row.max() == layout.rows - 1
        assert layout.column.max() < transform.columns
        restored = transform.inverse(coefficients, geometry, span)
        np.testing.assert_allclose(restored, part, atol=1e-5)
        zero = transform.inverse(np.zeros_like(coefficients), geometry, span)
        energy = np.sum((part - zero) ** 2)
        assert np.sum(coefficients**2) == pytest.approx(energy, rel=1e-4)
    assert stop == geometry.tokens


@pytest.mark.parametrize("transform", TRANSFORMS[2:])
def test_a_row_of_a_block_transform_holds_no_column_twice(transform):
    geometry = Geometry(2 + 13 * 21, 5, (13, 21))
    layout = transform.layout(geometry, range(geometry.tokens))
    pairs = layout.row.astype(np.int64) * transform.columns + layout.column
    assert len(np.unique(pairs)) == len(pairs)


def test_a_span_that_cuts_a_block_has_no_layout():
    geometry = Geometry(64, 5, (8, 8))
    assert TRANSFORMS[2].layout(geometry, range(8)) is None
    assert TRANSFORMS[3].layout(geometry, range(32)) is not None
