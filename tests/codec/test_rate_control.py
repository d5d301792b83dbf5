"""What a caller may ask for instead of an SNR: a bound on every error, a size."""

import numpy as np
import pytest
import torch
from featurewire_codec import FeatureCodec, FeatureError, inspect
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_features import make_grid, make_tokens, make_words

SHAPES = [(1, 1), (1, 32), (40, 1), (7, 32), (20, 32)]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shape=st.sampled_from(SHAPES),
    magnitude=st.integers(-12, 8),
    seed=st.integers(0, 99),
    bound=st.floats(1e-4, 2.0),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    giant=st.booleans(),
    own=st.booleans(),
)
def test_max_error_bounds_every_value(
    token_profile, shape, magnitude, seed, bound, dtype, giant, own
):
    magnitude = max(min(magnitude, 4), -4) if dtype is np.float16 else magnitude
    feature = np.random.default_rng(seed).laplace(size=shape) * 10.0**magnitude
    if giant:
        feature[0, -1] *= 1000
    feature = np.clip(feature, -60000, 60000).astype(dtype) if dtype is np.float16 else feature
    feature = feature.astype(dtype)
    profile = token_profile if own and shape[1] == 32 else None
    codec, allowed = FeatureCodec(profile), bound * 10.0**magnitude
    data = codec.encode(feature, max_error=allowed)
    errors = np.abs(codec.decode(data).numpy().astype(np.float64) - feature.astype(np.float32))
    assert errors.max() <= allowed
    assert inspect(data).header.midpoint


def test_a_coarser_bound_costs_less(token_profile):
    codec, feature = FeatureCodec(token_profile), make_tokens(5, 100)
    sizes = [len(codec.encode(feature, max_error=bound)) for bound in (0.01, 0.1, 1.0, 10.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


@pytest.mark.parametrize("bound", [0.0, -1.0, float("inf"), float("nan")])
def test_a_bound_that_is_none_is_refused(bound):
    with pytest.raises(FeatureError, match="max_error"):
        FeatureCodec().encode(make_tokens(1, 5), max_error=bound)


def test_a_bound_below_what_float32_holds_is_refused():
    with pytest.raises(FeatureError, match=r"max_error|step"):
        FeatureCodec().encode(np.float32([[1e9, 3e8, 1.2345e7]]), max_error=1e-3)


@pytest.mark.parametrize("effort", ["fast", "trellis"])
@pytest.mark.parametrize("framing", ["file", "session"])
@pytest.mark.parametrize("bits_a_value", [0.15, 0.3, 1.0, 2.5, 6.0, 14.0])
@pytest.mark.parametrize("kind", ["plain", "token", "codebook", "grid"])
def test_target_bits_are_met_within_two_per_cent_from_below(
    kind, bits_a_value, framing, effort, request
):
    profile, feature, grid = None, make_tokens(7, 256), None
    if kind in ("token", "codebook"):
        profile = request.getfixturevalue(f"{kind}_profile")
        feature = make_words(7, 256) if kind == "codebook" else feature
    elif kind == "grid":
        profile, grid = request.getfixturevalue("grid_profile"), (32, 32)
        feature = make_grid(7, *grid, prefix=1)
    codec = FeatureCodec(profile, framing=framing)
    target = int(bits_a_value * feature.size)
    data = codec.encode(feature, grid=grid, effort=effort, target_bits=target)
    assert 0.98 * target <= 8 * len(data) <= target
    shape = feature.shape if framing == "session" else None
    decoded = codec.decode(data, shape=shape, grid=grid if shape else None)
    assert decoded.shape == feature.shape
    assert torch.isfinite(decoded).all()


@pytest.mark.parametrize("bits_a_value", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_values_that_are_few_distinct_numbers_come_close_to_a_target(bits_a_value):
    feature = np.round(2 * np.random.default_rng(1).normal(size=(512, 64))).astype(np.float32)
    target = int(bits_a_value * feature.size)
    data = FeatureCodec().encode(feature, target_bits=target)
    assert 0.85 * target <= 8 * len(data) <= target


@pytest.mark.parametrize("target", [0, -5, float("nan"), float("inf")])
def test_a_target_that_is_no_number_of_bits_is_refused(target):
    with pytest.raises(FeatureError, match=r"target_bits is .*, at least 1 and finite is allowed"):
        FeatureCodec().encode(make_tokens(1, 5), target_bits=target)


def test_more_bits_mean_less_error(token_profile):
    codec, feature = FeatureCodec(token_profile), make_tokens(8, 200)
    errors = []
    for bits in (3000, 10_000, 30_000, 60_000):
        decoded = codec.decode(codec.encode(feature, target_bits=bits)).numpy()
        errors.append(float(np.mean((decoded - feature) ** 2)))
    assert errors == sorted(errors, reverse=True)


def test_a_size_out_of_reach_is_refused_with_the_least_that_is_not():
    with pytest.raises(FeatureError, match=r"target_bits is 40, this feature takes .* or more"):
        FeatureCodec().encode(make_tokens(1, 50), target_bits=40)
    with pytest.raises(FeatureError, match="at least 1"):
        FeatureCodec().encode(make_tokens(1, 50), target_bits=0)
    with pytest.raises(FeatureError, match="not asked for beside"):
        FeatureCodec().encode(make_tokens(1, 50), target_bits=10**5, max_error=1.0)


def test_more_bits_than_any_step_needs_give_the_finest_step():
    feature = np.float32([[1.0, 2.0]])
    decoded = FeatureCodec().decode(FeatureCodec().encode(feature, target_bits=10**6))
    np.testing.assert_allclose(decoded.numpy(), feature, rtol=1e-6)


@pytest.mark.parametrize("spacings", [4.0, 6.0, 20.0, 100.0])
def test_a_bound_near_the_spacing_of_float32_holds_by_a_finer_step(spacings):
    feature = np.random.default_rng(0).uniform(8192, 16383, (30, 8)).astype(np.float32)
    bound = spacings * float(np.spacing(np.float32(10000)))
    decoded = FeatureCodec().decode(FeatureCodec().encode(feature, max_error=bound)).numpy()
    assert np.abs(decoded.astype(np.float64) - feature).max() <= bound
