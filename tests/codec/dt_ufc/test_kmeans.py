"""The peaky-to-balanced transform."""

import numpy as np
import pytest
from featurewire_codec.dt_ufc.kmeans import fit_centres, to_indices, to_values


def mse(values, centres, form="nearest"):
    rebuilt = to_values(to_indices(values, centres, form), centres)
    return np.mean((rebuilt.astype(np.float64) - values) ** 2)


@pytest.fixture(scope="module")
def peaky():
    rng = np.random.default_rng(1)
    scales = np.geomspace(3, 0.01, 384)
    return (rng.laplace(size=(500, 384)) * scales).astype(np.float32)


def test_on_uniform_values_the_centres_are_even():
    values = np.random.default_rng(0).uniform(-1, 1, 60_000).astype(np.float32)
    assert mse(values, fit_centres(values)) == pytest.approx((2 / 256) ** 2 / 12, rel=0.03)


def test_peaky_values_cost_less_than_with_even_centres_or_quantiles(peaky):
    fitted = mse(peaky, fit_centres(peaky))
    even = np.linspace(peaky.min(), peaky.max(), 256).astype(np.float32)
    quantiles = np.quantile(peaky, np.linspace(0, 1, 256)).astype(np.float32)
    assert fitted < 0.5 * mse(peaky, even)
    assert fitted < 0.5 * mse(peaky, quantiles)


def test_the_indices_are_balanced_where_the_values_are_peaky(peaky):
    centres = fit_centres(peaky)
    even = np.linspace(peaky.min(), peaky.max(), 256).astype(np.float32)
    assert (
        to_indices(peaky, centres, "nearest").std() > 2 * to_indices(peaky, even, "nearest").std()
    )


def test_nearest_picks_the_nearest_centre(peaky):
    centres, some = fit_centres(peaky), peaky[:3].ravel().astype(np.float64)
    wanted = np.abs(some[:, None] - centres).min(axis=1)
    found = centres[to_indices(some.astype(np.float32), centres, "nearest")]
    np.testing.assert_allclose(np.abs(some - found), wanted, atol=1e-6)


def test_the_published_form_floors_and_costs_four_times_the_error():
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    centres = fit_centres(values)
    indices = to_indices(values, centres, "published")
    inside = (values >= centres[0]) & (values < centres[-1])
    assert (centres[indices] <= values)[inside].all()
    assert mse(values, centres, "published") / mse(values, centres) == pytest.approx(4, abs=0.4)


def test_every_channel_is_seen_however_many_there_are():
    values = np.zeros((4096, 256), np.float32)
    values[:, 129] = np.linspace(1, 2, 4096)  # a stride of 16 would never meet it
    assert mse(values[:, 129], fit_centres(values)) < 1e-4


def test_a_giant_has_a_centre_and_takes_none_from_the_rest(peaky):
    calm = mse(peaky, fit_centres(peaky))
    with_giant = peaky.copy()
    with_giant[17, 5] = 900.0
    centres = fit_centres(with_giant)
    assert centres[-1] == pytest.approx(900.0)
    assert mse(with_giant, centres) < 1.1 * calm


@pytest.mark.parametrize("values", [[2.5], [1.0, 2.0, 4.0], [3e38, -3e38, 5.0], [0.0, 1e-40]])
def test_few_values_come_back_exactly(values):
    feature = np.array([values], np.float32)
    centres = fit_centres(feature)
    assert (np.diff(centres) >= 0).all()
    rebuilt = to_values(to_indices(feature, centres, "nearest"), centres)
    np.testing.assert_allclose(rebuilt, feature, rtol=1e-6, atol=1e-39)
