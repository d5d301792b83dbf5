"""The quantiser's steps and thresholds."""

import numpy as np
import pytest
from featurewire_codec import FeatureError
from featurewire_codec.quantiser import (
    checked_step_exponent,
    nearest_step_exponent,
    rounding_thresholds,
    step_size,
)
from featurewire_codec.tables import load_tables, magnitude_bits


def test_a_step_halves_in_32():
    assert step_size(-32) == 0.5
    assert step_size(33) / step_size(1) == pytest.approx(2)
    assert [nearest_step_exponent(step_size(j)) for j in (-2048, -7, 0, 2047)] == [
        -2048,
        -7,
        0,
        2047,
    ]


@pytest.mark.parametrize("j", [-2049, 2048])
def test_a_step_that_no_header_can_say_is_refused(j):
    with pytest.raises(FeatureError, match="a whim needs a step"):
        checked_step_exponent(j, "a whim")


def test_thresholds_minimise_error_plus_worth_of_bits():
    tables = load_tables()
    bits, centroids, worth = magnitude_bits(tables), tables.centroids, 0.1
    thresholds = rounding_thresholds(bits, centroids, worth)
    magnitudes = np.arange(0.0, 2.9, 0.01)
    for number in range(40, 64):
        values = np.arange(4) + centroids[number, [0, 1, 2, 3]] / 256
        cost = (magnitudes[:, None] - values) ** 2 + worth * bits[number, :4]
        chosen = (magnitudes[:, None] >= thresholds[number, :3]).sum(axis=1)
        picked = cost[np.arange(len(magnitudes)), chosen]
        assert (picked <= cost.min(axis=1) + 0.05).all(), number


def test_a_dear_bit_widens_the_dead_zone():
    tables = load_tables()
    free = rounding_thresholds(magnitude_bits(tables), tables.centroids, 0.0)
    dear = rounding_thresholds(magnitude_bits(tables), tables.centroids, 0.1)
    assert (dear[20:42, 0] > free[20:42, 0]).all()
