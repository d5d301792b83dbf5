"""The index plane."""

import numpy as np
import pytest
from featurewire_codec.dt_ufc.plane import MAX_PIXELS, Plane

SHAPES = [
    (1, 1, None),
    (1, 4096, None),
    (130, 96, None),
    (64, 64, None),
    (64, 16, (8, 8)),
    (35, 7, (5, 7)),
    (12, 32, (3, 4)),
    (257, 96, (16, 16)),  # a token before the grid: no latents
    (256, 96, (16, 16)),  # too many channels for pictures
]


@pytest.mark.parametrize(("tokens", "channels", "grid"), SHAPES)
def test_unpack_undoes_pack(tokens, channels, grid):
    indices = np.random.default_rng(0).integers(0, 256, (tokens, channels), dtype=np.uint8)
    plane = Plane.of(tokens, channels, grid)
    picture = plane.pack(indices)
    assert picture.shape == plane.padded
    assert all(side % 64 == 0 for side in picture.shape)
    np.testing.assert_array_equal(plane.unpack(picture), indices)


def test_sixteen_channels_of_latents_stand_four_by_four():
    indices = np.repeat(np.arange(16, dtype=np.uint8)[None], 32 * 32, axis=0)
    picture = Plane.of(1024, 16, (32, 32)).pack(indices)
    assert picture.shape == (128, 128)
    for channel in range(16):
        row, column = 32 * (channel // 4), 32 * (channel % 4)
        assert (picture[row : row + 32, column : column + 32] == channel).all()


def test_neighbours_on_the_grid_are_neighbours_in_the_plane():
    indices = np.zeros((64, 16), np.uint8)
    indices[8 * 3 + 4, 5] = 1  # row 3, column 4 of channel 5, which stands at tile (1, 1)
    assert np.argwhere(Plane.of(64, 16, (8, 8)).pack(indices) == 1)[0].tolist() == [8 + 3, 8 + 4]


def test_tokens_are_packed_as_they_are_and_padded_with_the_middle_index():
    indices = np.arange(70 * 3, dtype=np.uint8).reshape(70, 3)
    picture = Plane.of(70, 3, None).pack(indices)
    np.testing.assert_array_equal(picture[:70, :3], indices)
    assert (picture[70:] == 128).all()
    assert (picture[:70, 3:] == 128).all()


def test_few_tokens_are_folded_where_that_leaves_less_to_pad():
    assert Plane.of(1, 4096, None).padded == (64, 64)
    assert Plane.of(1, 384, None).padded == (64, 64)
    assert Plane.of(20, 384, None).padded == (64, 128)
    assert Plane.of(40, 384, None).shape == (40, 384)
    indices = np.arange(256, dtype=np.uint8)[None]
    assert Plane.of(1, 256, None).pack(indices)[1, 0] == 64


@pytest.mark.parametrize(
    ("tokens", "channels", "grid"),
    [
        (1, 16384, None),
        (5000, 4096, None),
        (40000, 64, (200, 200)),
        (1 << 20, 1, (1 << 10, 1 << 10)),
    ],
)
def test_chunks_cover_the_tokens_in_order_and_are_bounded(tokens, channels, grid):
    place = 0
    for span, plane in Plane.of(tokens, channels, grid).chunks():
        assert span.start == place
        assert len(span) == plane.tokens
        assert plane.padded[0] * plane.padded[1] <= MAX_PIXELS
        place = span.stop
    assert place == tokens
