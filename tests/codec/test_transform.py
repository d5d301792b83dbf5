"""The transforms are orthonormal and inverse to themselves, on every grid and span."""

import numpy as np
import pytest
from featurewire_codec.block_dct import BlockDct
from featurewire_codec.codebook import TokenCodebook
from featurewire_codec.transform import ChannelKlt, Geometry, Identity


def orthogonal(*shape: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(0).normal(size=shape))[0].astype(np.float32)


MEAN = np.linspace(-3, 3, 5, dtype=np.float32)
CODEBOOK = TokenCodebook(
    mean=MEAN,
    matrices=np.stack([orthogonal(5, 5), np.eye(5, dtype=np.float32)]),
    spreads=np.ones((2, 5), np.float32),
    codewords=np.random.default_rng(2).integers(-127, 128, (6, 5)).astype(np.int8),
    scales=np.full((2, 5), 0.02, np.float32),
    group=np.array([0, 1, 1, 0, 1, 0], np.uint8),
    counts=np.ones(6, np.int64),
)
TRANSFORMS = [
    Identity(MEAN),
    ChannelKlt(MEAN, orthogonal(5, 5)),
    BlockDct(MEAN, 2 * MEAN, orthogonal(1, 5, 5), 8),
    BlockDct(MEAN, 2 * MEAN, orthogonal(16, 5, 5), 4),
    CODEBOOK,
]
NAMES = ["identity", "klt", "dct of one matrix", "dct of many", "codebook"]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=NAMES)
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
        index = transform.search(part)
        coefficients = transform.forward(part, geometry, span, index)
        layout = transform.layout(geometry, span, index)
        rows = np.concatenate([panel.rows for panel in layout.panels])
        np.testing.assert_array_equal(np.sort(rows), np.arange(layout.rows))
        for panel, matrix in zip(layout.panels, coefficients, strict=True):
            assert matrix.shape == (len(panel.rows), len(panel.columns))
            assert matrix.dtype == np.float32
            assert matrix.flags.c_contiguous
            assert panel.columns.max() < transform.columns
            assert (np.diff(panel.columns) > 0).all()
        assert sum(matrix.size for matrix in coefficients) == part.size
        restored = transform.inverse(coefficients, geometry, span, index)
        np.testing.assert_allclose(restored, part, atol=1e-4)
        zeros = [np.zeros_like(matrix) for matrix in coefficients]
        zero = transform.inverse(zeros, geometry, span, index)
        energy = np.sum((part - zero) ** 2)
        found = sum(np.sum(matrix**2) for matrix in coefficients)
        assert found == pytest.approx(energy, rel=1e-4)
    assert stop == geometry.tokens


@pytest.mark.parametrize("transform", TRANSFORMS[2:4], ids=NAMES[2:4])
def test_every_block_of_a_grid_is_cut_out_once(transform):
    """A feature whose values say where they are comes back from its blocks in its place."""
    geometry = Geometry(2 + 13 * 21, 5, (13, 21))
    feature = np.arange(geometry.tokens * 5, dtype=np.float32).reshape(-1, 5)
    whole = range(geometry.tokens)
    restored = transform.inverse(transform.forward(feature, geometry, whole), geometry, whole)
    np.testing.assert_allclose(restored, feature, atol=0.02)


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 37])
def test_spans_that_cut_a_band_have_no_layout(rows):
    """Compared with a list of the bands, which a decoder never makes."""
    transform, width, prefix = TRANSFORMS[3], 3, 2
    geometry = Geometry(prefix + rows * width, 5, (rows, width))
    count = -(-rows // 4)
    heights = [rows // count + (n < rows % count) for n in range(count)]
    ends = [prefix + width * sum(heights[: n + 1]) for n in range(count)]
    for start in range(geometry.tokens):
        for stop in range(start + 1, geometry.tokens + 1):
            found = transform.layout(geometry, range(start, stop))
            assert (found is not None) == (start in (0, *ends) and stop in ends)
