"""Rate-distortion curves: interpolation goes through the points, BD-rates are what they mean."""

import math
from itertools import pairwise

import pytest
from featurewire_bench.curves import bd_rate, bits_at, curve, snr_at

ANCHOR = curve((snr, 0.4 + 0.11 * snr + 0.002 * snr**2) for snr in (5, 10, 15, 20, 25))


def test_a_curve_goes_through_its_points_and_never_turns_between_them() -> None:
    for snr, bits in ANCHOR:
        assert bits_at(ANCHOR, snr) == pytest.approx(bits)
    fine = [bits_at(ANCHOR, 5 + 0.05 * n) or 0.0 for n in range(401)]
    assert all(low < high for low, high in pairwise(fine))


def test_an_exponential_rate_is_interpolated_exactly() -> None:
    line = curve((snr, 2 ** (0.1 * snr)) for snr in (5.0, 12.0, 20.0))
    assert bits_at(line, 9.3) == pytest.approx(2**0.93)


def test_the_snr_of_a_rate_is_the_inverse() -> None:
    for snr in (5.0, 7.3, 18.9, 25.0):
        bits = bits_at(ANCHOR, snr)
        assert bits is not None
        assert snr_at(ANCHOR, bits) == pytest.approx(snr, abs=1e-6)
    assert snr_at(ANCHOR, 0.01) is None


def test_beyond_the_measured_range_nothing_is_known() -> None:
    assert bits_at(ANCHOR, 4.9) is None
    assert bits_at(ANCHOR, 25.1) is None
    assert bits_at([(15.0, 2.0)], 15.0) is None


def test_a_curve_of_a_fifth_fewer_bits_has_a_bd_rate_of_minus_twenty_percent() -> None:
    cheaper = [(snr, 0.8 * bits) for snr, bits in ANCHOR]
    assert bd_rate(cheaper, ANCHOR) == pytest.approx(-20)
    assert bd_rate(ANCHOR, cheaper) == pytest.approx(25)
    assert bd_rate(ANCHOR, ANCHOR) == pytest.approx(0)


def test_a_bd_rate_is_the_mean_over_the_common_snrs() -> None:
    flat = curve([(0.0, 1.0), (30.0, 1.0 + 1e-9)])
    rising = curve((float(snr), 2 ** (snr / 10)) for snr in (10, 14, 20))
    assert bd_rate(rising, flat) == pytest.approx(100 * (2**1.5 - 1), rel=1e-6)


def test_curves_that_hardly_overlap_are_not_compared() -> None:
    assert bd_rate([(22.5, 1.0), (40.0, 2.0)], ANCHOR) is None
    assert bd_rate([(15.0, 2.0)], ANCHOR) is None


def test_what_another_point_beats_is_left_out() -> None:
    points = [(10.0, 1.0), (9.0, 1.5), (12.0, 2.0), (12.0, 2.2), (20.0, 3.0)]
    assert curve(points) == [(10.0, 1.0), (12.0, 2.0), (20.0, 3.0)]
    assert not math.isnan(bits_at(curve(points), 11.0) or math.nan)
