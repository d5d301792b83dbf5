"""A sample's parts: all of its tokens, in whole rows of its grid."""

import pytest
from featurewire.wire.parts import PART_POINTS, grid_of_part, parts_of


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((1500, 1024), None),
        ((1370, 1536), (37, 37)),
        ((4097, 96), (64, 64)),
        ((261, 4096), (16, 16)),
        ((5, 1), (2, 2)),
        ((1, 2 * PART_POINTS), None),
    ],
)
def test_parts_are_all_tokens_and_whole_rows(shape, grid):
    parts = parts_of(shape, grid)
    assert [token for part in parts for token in part] == list(range(shape[0]))
    assert all(parts)
    grids = [grid_of_part(shape[0], grid, part) for part in parts]
    if grid is None:
        assert set(grids) == {None}
        assert max(map(len, parts)) <= max(PART_POINTS // shape[1], 1)
    else:
        assert sum(rows for rows, _ in grids) == grid[0]
        assert {columns for _, columns in grids} == {grid[1]}
        assert all(rows % 8 == 0 for rows, _ in grids[:-1])


def test_a_long_feature_has_several_parts():
    assert len(parts_of((1370, 1536), (37, 37))) == 5


@pytest.mark.parametrize("part", [range(1, 9), range(2), range(4, 8), range(10, 15), range(8)])
def test_a_part_that_is_not_of_whole_rows_has_no_grid(part):
    """Two tokens before a grid of 4 x 4."""
    with pytest.raises(ValueError, match="no whole rows of 4 x 4 patches behind 2 tokens"):
        grid_of_part(18, (4, 4), part)
