"""Floats at the edge of the codec: the same values and judgements, compiled or not."""

import numpy as np
import pytest
from featurewire_codec import floats

LARGEST = float(np.finfo(np.float32).max)


@pytest.fixture(params=["compiled", "numpy"])
def loops(request, monkeypatch) -> str:
    if request.param == "numpy":
        monkeypatch.setattr(floats, "_loops", lambda: None)
    return request.param


@pytest.mark.usefixtures("loops")
def test_every_half_becomes_the_same_number():
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    wide, finite = floats.widen(halves)
    assert not finite
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(wide, halves.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(wide), np.signbit(halves))
    wide, finite = floats.widen(np.where(np.isfinite(halves), halves, np.float16(0)).T)
    assert finite
    assert wide.flags.c_contiguous


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_seen(kind, bad):
    values = np.ones((7, 13), kind)
    assert floats.widen(values)[1]
    values[5, 11] = bad
    assert not floats.widen(values)[1]


@pytest.mark.usefixtures("loops")
def test_the_largest_floats_are_finite_and_larger_ones_are_not():
    assert floats.all_finite(np.array([[LARGEST, -LARGEST, 1e-45]], np.float32).T)
    assert not floats.widen(np.array([[2 * LARGEST]]))[1]
