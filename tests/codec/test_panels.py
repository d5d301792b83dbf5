"""Quantising and its inverse, in numpy and compiled: the same symbols, the same values."""

import numpy as np
import pytest
from featurewire_codec import panels as reference
from featurewire_codec.entropy_model import Ladder
from featurewire_codec.errors import FeatureError
from featurewire_codec.kernels import panels as compiled
from featurewire_codec.panels import from_symbols, to_symbols
from featurewire_codec.span import thresholds_for
from featurewire_codec.tables import load_tables
from hypothesis import given
from hypothesis import strategies as st

LOOPS = [reference, compiled]
RADII = load_tables().radii
SORTED, MIXED, FLAT = "sorted", "mixed", "flat"


def make_panels(seed: int, spread: int, size: float) -> list:
    """Return panels of all kinds of ladders: values, ladder, shifts."""
    rng = np.random.default_rng(seed)
    made = []
    for kind, rows, columns in ((SORTED, 7, 40), (MIXED, 5, 33), (FLAT, 3, 9), (MIXED, 1, 1)):
        offsets = rng.integers(-spread, spread + 1, columns) if kind != FLAT else np.zeros(columns)
        offsets = np.sort(offsets) if kind == SORTED else offsets
        ladder = Ladder.of((48 + offsets).astype(np.int32))
        shifts = rng.integers(-12, 13, rows).astype(np.int32)
        scale = 2.0 ** ((48 + offsets[None] + shifts[:, None] - 48) / 4)
        values = rng.laplace(size=(rows, columns)) * scale * size
        made.append((values.astype(np.float32), ladder, shifts))
    return made


@pytest.mark.parametrize("bit_worth", [None, 0.1])
@pytest.mark.parametrize("spread", [4, 60, 300])
@pytest.mark.parametrize("size", [0.0, 1.0, 30.0])
def test_compiled_loops_make_the_same_symbols_and_values(spread, size, bit_worth):
    panels = make_panels(spread, spread, size)
    thresholds, tables = thresholds_for(bit_worth), load_tables()
    panels = [
        (np.clip(values, -(2.0**29), 2.0**29).astype(np.float32), ladder, shifts)
        for values, ladder, shifts in panels
    ]
    shapes = [(ladder, shifts) for _, ladder, shifts in panels]
    one, other = (loops.quantise(panels, 1.25, thresholds, RADII) for loops in LOOPS)
    for name in ("symbols", "counts", "low", "excess"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    if spread == 300 and size:
        assert len(one.low)
    if size == 30.0:
        assert len(one.excess)
    np.testing.assert_array_equal(compiled.counts_of(shapes), reference.counts_of(shapes))
    np.testing.assert_array_equal(*(loops.raw_widths(one.counts) for loops in LOOPS))
    escapes = [loops.count_escapes(one.symbols, one.counts, RADII) for loops in LOOPS]
    assert escapes == [len(one.excess)] * 2
    parts = [loops.dequantise(one, shapes, 0.8, RADII, tables.centroids) for loops in LOOPS]
    for mine, theirs in zip(*parts, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("size", [0.3, 5.0, 500.0])
def test_compiled_loops_judge_rows_and_bits_alike(size):
    for values, ladder, _ in make_panels(1, 30, size):
        rng = np.random.default_rng(2)
        inverse = rng.random(ladder.columns).astype(np.float32)
        weight = (1024 * rng.random(ladder.columns)).astype(np.float32)
        sums = [loops.activity(values, ladder, inverse, weight) for loops in LOOPS]
        np.testing.assert_array_equal(*sums)
        bits = [loops.rough_bits(values.ravel(), 0.37) for loops in LOOPS]
        assert bits[0] == bits[1]


@pytest.mark.parametrize("loops", LOOPS)
def test_rounding_to_the_nearest_index_errs_by_half_a_step_at_most(loops):
    panels = make_panels(3, 100, 3.0)
    shapes = [(ladder, shifts) for _, ladder, shifts in panels]
    coded = loops.quantise(panels, 1.0, thresholds_for(None), RADII)
    middle = np.zeros_like(load_tables().centroids)
    rebuilt = loops.dequantise(coded, shapes, 1.0, RADII, middle)
    for (values, _, _), there in zip(panels, rebuilt, strict=True):
        assert (np.abs(there - values) <= 0.5 + np.abs(values) * 2.0**-23).all()


@pytest.mark.parametrize("loops", LOOPS)
@pytest.mark.parametrize("place", [0, 3, 8])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**30, -(2.0**31)])
def test_what_no_index_reaches_is_refused_wherever_it_stands(loops, bad, place):
    values = np.ones((2, 9), np.float32)
    values[1, place] = bad
    panel = values, Ladder.of(np.full(9, 48, np.int32)), np.zeros(2, np.int32)
    with np.errstate(invalid="ignore"), pytest.raises(FeatureError, match="steps from zero"):
        loops.quantise([panel], 1.0, thresholds_for(0.1), RADII)


@pytest.mark.parametrize("loops", LOOPS)
def test_values_are_rebuilt_at_the_centroid_of_class_and_magnitude(loops):
    centroids = np.zeros((64, 4), np.int8)
    centroids[48] = [0, -64, 32, 16]
    ladder, shifts = Ladder.of(np.full(5, 48, np.int32)), np.zeros(1, np.int32)
    indices = np.array([[0, 1, -2, 3, 90]])
    coded = to_symbols([indices], [(ladder, shifts)], RADII)
    (values,) = loops.dequantise(coded, [(ladder, shifts)], 4.0, RADII, centroids)
    assert values.tolist() == [[0.0, 3.0, -8.5, 12.25, 360.25]]


@given(st.lists(st.tuples(st.integers(-1024, 1024), st.integers(-(2**57), 2**57)), min_size=1))
def test_indices_survive_their_symbols_at_every_level(pairs):
    offsets = np.array([offset for offset, _ in pairs], np.int32)
    ladder, shifts = Ladder.of(offsets), np.array([0], np.int32)
    raw = np.clip((np.clip(offsets, 0, 159) - 60) >> 2, 0, None).astype(np.int64)
    limit = 2**31 << raw  # 32 bits of an escape, above the raw ones
    indices = np.clip([[index for _, index in pairs]], -limit, limit)
    indices = ladder.in_order(indices)
    coded = to_symbols([indices], [(ladder, shifts)], RADII)
    ((restored, groups),) = from_symbols(coded, [(ladder, shifts)], RADII)
    np.testing.assert_array_equal(restored, indices)
    np.testing.assert_array_equal(groups, ladder.groups(shifts))
    assert (coded.symbols <= 2 * RADII.max()).all()
    assert coded.counts.sum() == len(pairs)


def test_symbols_are_ordered_by_group_then_panel_then_row_then_offset():
    first = Ladder.of(np.array([50, 48, 50], np.int32)), np.array([0, 2], np.int32)
    second = Ladder.of(np.array([48], np.int32)), np.array([0], np.int32)
    indices = [np.array([[1, 2, 3], [4, 5, 6]]), np.array([[7]])]
    coded = to_symbols(indices, [first, second], RADII)
    symbols = coded.symbols.astype(int)
    radii = np.repeat(RADII[[48, 50, 52]], [2, 3, 2])
    assert (symbols - radii).tolist() == [1, 7, 2, 3, 4, 5, 6]
