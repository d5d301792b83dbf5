"""Encoding and decoding: quality, shapes, dtypes, refusals."""

import math

import numpy as np
import pytest
import torch
from featurewire_codec import (
    CodecError,
    FeatureCodec,
    FeatureError,
    Profile,
    ProfileError,
    inspect,
)
from featurewire_codec.encoder import Encoder, Settings
from featurewire_codec.transform import Geometry
from synthetic_features import make_grid, make_tokens, make_words


def snr_db(feature, decoded, energy):
    return 10 * np.log10(energy / np.mean((feature - decoded.numpy()) ** 2, dtype=np.float64))


@pytest.mark.parametrize("asked", [5.0, 10.0, 17.3, 25.0, 40.0])
def test_a_profile_reaches_the_asked_snr_on_its_domain(token_profile, asked):
    codec = FeatureCodec(token_profile)
    features = [make_tokens(seed, 150) for seed in range(100, 110)]
    decoded = [codec.decode(codec.encode(feature, asked)) for feature in features]
    pooled = np.concatenate(features), torch.cat(decoded)
    assert snr_db(*pooled, token_profile.energy) == pytest.approx(asked, abs=0.3)


@pytest.mark.parametrize("asked", [15.0, 17.3, 25.0])
def test_a_codebook_reaches_the_asked_snr_on_its_domain(codebook_profile, asked):
    codec = FeatureCodec(codebook_profile)
    features = [make_words(seed, 150) for seed in range(100, 120)]
    decoded = [codec.decode(codec.encode(feature, asked)) for feature in features]
    pooled = np.concatenate(features), torch.cat(decoded)
    assert snr_db(*pooled, codebook_profile.energy) == pytest.approx(asked, abs=0.3)


def test_below_what_its_codewords_alone_reach_a_codebook_is_better_than_asked(codebook_profile):
    codec, feature = FeatureCodec(codebook_profile), make_words(100, 3000)
    data = codec.encode(feature, 3.0)
    assert 8 * len(data) / feature.size < 0.25
    assert snr_db(feature, codec.decode(data), codebook_profile.energy) > 3.0


@pytest.mark.parametrize("asked", [5.0, 15.0, 25.0])
def test_a_grid_profile_reaches_the_asked_snr_on_its_domain(grid_profile, asked):
    codec = FeatureCodec(grid_profile)
    features = [make_grid(seed, 16, 16, prefix=1) for seed in range(100, 160)]
    decoded = [codec.decode(codec.encode(feature, asked, grid=(16, 16))) for feature in features]
    pooled = np.concatenate(features), torch.cat(decoded)
    assert snr_db(*pooled, grid_profile.energy) == pytest.approx(asked, abs=0.3)


@pytest.mark.parametrize("asked", [0.0, 10.0, 25.0, 60.0])
def test_a_self_describing_stream_reaches_the_asked_snr(asked):
    feature = make_tokens(7, 200)
    data = FeatureCodec().encode(feature, asked)
    energy = inspect(data).header.energy
    assert snr_db(feature, FeatureCodec().decode(data), energy) == pytest.approx(asked, abs=0.3)


@pytest.mark.parametrize("asked", [10.0, 25.0])
def test_a_grid_profile_reaches_the_asked_snr_on_another_grid(grid_profile, asked):
    assert grid_profile.transform.mode == "dct"
    codec = FeatureCodec(grid_profile)
    features = [make_grid(seed, 21, 18, prefix=1) for seed in range(100, 110)]
    decoded = [codec.decode(codec.encode(f, asked, grid=(21, 18))) for f in features]
    pooled = np.concatenate(features), torch.cat(decoded)
    assert snr_db(*pooled, grid_profile.energy) == pytest.approx(asked, abs=1.0)


def test_a_profile_saves_a_quarter_of_the_bits_of_correlated_channels(token_profile):
    feature = make_tokens(50, 300)
    plain, coded = (
        FeatureCodec().encode(feature, 15),
        FeatureCodec(token_profile).encode(feature, 15),
    )
    assert len(coded) < 0.75 * len(plain)


def test_more_snr_costs_about_a_bit_every_six_db(token_profile):
    feature = make_tokens(51, 300)
    sizes = [len(FeatureCodec(token_profile).encode(feature, snr)) for snr in (40, 46.02, 100)]
    assert 8 * (sizes[1] - sizes[0]) / feature.size == pytest.approx(1.0, abs=0.1)
    assert 8 * (sizes[2] - sizes[1]) / feature.size == pytest.approx(9.0, abs=0.5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 32), (40, 1), (7, 32), (3, 5000)])
def test_any_shape_round_trips(shape):
    feature = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    decoded = FeatureCodec().decode(FeatureCodec().encode(feature, 40))
    assert decoded.shape == shape
    assert decoded.dtype == torch.float32
    assert np.abs(decoded.numpy() - feature).max() < 0.2


@pytest.mark.parametrize("value", [0.0, 3.5, -1e17, 1e-10])
@pytest.mark.parametrize("snr_db", [10, 60, 120])
def test_a_constant_feature_round_trips_at_any_quality(value, snr_db):
    feature = np.full((9, 4), value, np.float32)
    decoded = FeatureCodec().decode(FeatureCodec().encode(feature, snr_db)).numpy()
    np.testing.assert_allclose(decoded, feature, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_dtype_encodes_like_its_float32(dtype, token_profile):
    feature = torch.from_numpy(make_tokens(2, 20)).to(dtype)
    codec = FeatureCodec(token_profile)
    assert codec.encode(feature) == codec.encode(feature.float().numpy())


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.longdouble])
def test_every_float_array_encodes_like_its_float32(dtype):
    feature = make_tokens(2, 20).astype(np.float16).astype(dtype)
    assert FeatureCodec().encode(feature) == FeatureCodec().encode(feature.astype(np.float32))


def test_a_tensor_that_needs_gradients_encodes_like_its_values():
    feature = torch.from_numpy(make_tokens(2, 20))
    wanted = FeatureCodec().encode(feature)
    assert FeatureCodec().encode(feature.clone().requires_grad_()) == wanted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_a_tensor_on_a_gpu_encodes_like_its_copy_and_decodes_onto_one(token_profile):
    feature, codec = torch.from_numpy(make_tokens(2, 20)), FeatureCodec(token_profile)
    data = codec.encode(feature.cuda())
    assert data == codec.encode(feature)
    assert torch.equal(codec.decode(data, device="cuda").cpu(), codec.decode(data))


def test_a_non_contiguous_feature_encodes_like_its_copy():
    feature = torch.from_numpy(make_tokens(2, 40)).T[::2]
    assert FeatureCodec().encode(feature) == FeatureCodec().encode(feature.contiguous())
    reversed_rows = make_tokens(2, 40)[::-1]
    assert FeatureCodec().encode(reversed_rows) == FeatureCodec().encode(reversed_rows.copy())


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        (np.zeros((0, 4), np.float32), "at least one value"),
        (np.zeros((4, 0), np.float32), "at least one value"),
        (np.zeros(4, np.float32), "tokens, channels"),
        (np.zeros((2, 3, 4), np.float32), "tokens, channels"),
        (np.zeros((2, 3), np.int32), "float type"),
        (np.zeros((2, 3), np.int8), "float type"),
        (np.zeros((2, 3), bool), "float type"),
        (torch.zeros(2, 3, dtype=torch.int64), "float type"),
        (np.zeros((2, 3), np.complex64), "float type"),
        (np.array([[1, np.nan]], np.float32), "NaN"),
        (torch.tensor([[1, float("inf")]]), "NaN or infinities"),
        (np.array([[1e300, 0]]), "finite in float32"),
    ],
)
def test_what_is_no_feature_is_refused(feature, words):
    with pytest.raises(FeatureError, match=words):
        FeatureCodec().encode(feature)


@pytest.mark.parametrize("snr", [float("nan"), -31, 121])
def test_an_snr_out_of_range_is_refused(snr):
    with pytest.raises(FeatureError, match="snr_db"):
        FeatureCodec().encode(np.ones((2, 2), np.float32), snr)


@pytest.mark.parametrize("grid", [(0, 3), (-1, -2), (4, 4)])
def test_a_grid_that_does_not_fit_is_refused(grid):
    with pytest.raises(FeatureError, match="grid"):
        FeatureCodec().encode(np.ones((9, 2), np.float32), grid=grid)


def test_a_grid_profile_asks_for_the_grid(grid_profile):
    with pytest.raises(FeatureError, match="give grid"):
        FeatureCodec(grid_profile).encode(make_grid(3, 16, 16))


def test_a_profile_of_another_width_is_refused(token_profile):
    with pytest.raises(ProfileError, match="31 channels, the profile is for 32"):
        FeatureCodec(token_profile).encode(np.ones((5, 31), np.float32))


def test_another_profile_is_refused_and_both_are_named(token_profile, grid_profile):
    data = FeatureCodec(token_profile).encode(make_tokens(1, 5))
    with pytest.raises(ProfileError) as caught:
        FeatureCodec(grid_profile).decode(data)
    assert token_profile.digest[:16] in str(caught.value)
    assert grid_profile.digest[:16] in str(caught.value)
    with pytest.raises(ProfileError, match=f"{token_profile.digest[:16]}, none is set"):
        FeatureCodec().decode(data)


def test_features_of_another_domain_fall_back_and_keep_their_quality(token_profile):
    rng = np.random.default_rng(5)
    shifted = rng.laplace(size=(100, 32)).astype(np.float32) * np.float32(
        np.geomspace(90, 0.001, 32)
    )
    codec = FeatureCodec(token_profile)
    data = codec.encode(shifted, 20)
    assert all(chunk.plain for chunk in inspect(data).chunks)
    assert snr_db(shifted, codec.decode(data), token_profile.energy) > 19
    for scale in (1e-12, 1e6):
        assert codec.decode(codec.encode(shifted * np.float32(scale), 20)).shape == shifted.shape


@pytest.mark.parametrize("kind", ["token", "codebook", "grid"])
@pytest.mark.parametrize("domain", ["own", "laplace", "scaled", "sparse", "turned", "half"])
@pytest.mark.parametrize("asked", [5.0, 15.0, 30.0])
def test_a_profile_never_costs_one_per_cent_more_than_none(kind, domain, asked, request):
    """At one step, by the real bytes: under a domain shift chunks fall back to plain."""
    profile, rng, grid = request.getfixturevalue(f"{kind}_profile"), np.random.default_rng(9), None
    own = make_words(200, 1300) if kind == "codebook" else make_tokens(200, 1300)
    if kind == "grid":
        grid, own = (36, 36), make_grid(200, 36, 36, prefix=4)
    shape = own.shape
    feature = {
        "own": own,
        "laplace": rng.laplace(size=shape) * np.geomspace(30, 0.01, shape[1]),
        "scaled": own * 40,
        "sparse": np.where(rng.random(shape) < 0.1, rng.normal(size=shape) * 9, 0),
        "turned": own @ np.linalg.qr(rng.normal(size=(shape[1], shape[1])))[0],
        "half": np.concatenate([own[: shape[0] // 2], rng.normal(size=shape)[shape[0] // 2 :]]),
    }[domain].astype(np.float32)
    data = FeatureCodec(profile).encode(feature, asked, grid)
    settings = Settings(inspect(data).header.step_exponent, energy=1.0)
    geometry = Geometry.of(feature, grid)
    alone = b"".join(Encoder(None, geometry, settings, "file").chunks(feature))
    header = 8  # a digest has four bytes more than E; the last bytes of lanes may be zero
    if len(data) > 1.01 * len(alone) + header:  # codewords where none is all zeros: they are nearer
        pair = FeatureCodec(profile).decode(data), FeatureCodec().decode(alone)
        errors = [float(((decoded.numpy() - feature) ** 2).mean()) for decoded in pair]
        assert kind == "codebook"
        assert asked == 5.0
        assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("effort", ["fast", "trellis"])
@pytest.mark.parametrize("asked", [2.0, 5.0, 8.0])
@pytest.mark.parametrize("kind", ["token", "codebook"])
def test_what_bits_would_hardly_improve_is_coded_as_zeros(kind, asked, effort, request):
    profile = request.getfixturevalue(f"{kind}_profile")
    shape, rng = make_words(200, 1500).shape, np.random.default_rng(1)
    noise = (rng.uniform(-1, 1, shape) * 0.5 * math.sqrt(profile.energy)).astype(np.float32)
    data = FeatureCodec(profile).encode(noise, asked, effort=effort)
    zeros = FeatureCodec().encode(np.zeros_like(noise), asked, effort=effort)
    assert len(data) <= len(zeros) + 8  # a digest, and another step


@pytest.mark.parametrize("scale", [1e-18, 1e-12, 1e12])
def test_zeros_replace_nothing_that_is_only_small(scale):
    feature = (make_tokens(3, 200) * scale).astype(np.float32)
    decoded = FeatureCodec().decode(FeatureCodec().encode(feature, 1.0))
    energy = float((feature.astype(float) ** 2).mean())
    assert snr_db(feature.astype(float), decoded, energy) > 0.7


@pytest.mark.parametrize("spread", [1.0, 4.0, 8.0])
@pytest.mark.parametrize("asked", [10.0, 15.0, 20.0])
def test_noise_where_calibration_saw_none_costs_no_more_than_without_a_profile(spread, asked):
    """The mean is kept and the energy moves to columns that the profile takes for nearly zero."""
    rng = np.random.default_rng(12)
    basis, mean = rng.normal(size=(16, 64)), 15 * rng.normal(size=64)
    samples = [(mean + rng.normal(size=(512, 16)) @ basis).astype(np.float32) for _ in range(6)]
    profile = Profile.calibrate(samples)
    assert profile.report["kept"] == "klt"
    feature = (mean + spread * rng.normal(size=(512, 64))).astype(np.float32)
    codec, alone = FeatureCodec(profile), FeatureCodec()
    data = codec.encode(feature, asked)
    error = ((codec.decode(data).numpy() - feature) ** 2).mean()
    snr = 0.0
    while (
        (alone.decode(other := alone.encode(feature, snr)).numpy() - feature) ** 2
    ).mean() > error:
        snr += 0.1
    assert len(data) <= 1.01 * len(other) + 8


def test_a_value_too_large_for_the_step_is_refused_not_wrapped(token_profile):
    with pytest.raises(FeatureError, match="ask for a lower snr_db"):
        FeatureCodec(token_profile).encode(np.full((4, 32), 1e30, np.float32))


@pytest.mark.parametrize("scale", [1e-44, 1e-20, 1e30, 3e38])
def test_a_feature_beyond_every_step_is_refused(scale):
    with pytest.raises(FeatureError, match="scale"):
        FeatureCodec().encode(make_tokens(1, 20, giants=False).clip(-1, 1) * np.float32(scale), 100)


def test_giants_cost_little_and_arrive(token_profile):
    feature = make_tokens(60, 200, giants=False)
    codec = FeatureCodec(token_profile)
    calm = len(codec.encode(feature, 15))
    feature[10, 5] = 40000.0
    data = codec.encode(feature, 15)
    assert len(data) < calm + 6 * 32  # the KLT spreads it over the token's 32 coefficients
    assert codec.decode(data)[10, 5].item() == pytest.approx(40000.0, rel=1e-3)


def test_chunks_join_to_the_bitstream_and_carry_the_header_first():
    feature = np.random.default_rng(3).normal(size=(700, 1024)).astype(np.float32)
    chunks = list(FeatureCodec().encode_chunks(feature, 10))
    assert len(chunks) == 3
    assert b"".join(chunks) == FeatureCodec().encode(feature, 10)


def test_the_codec_errors_are_all_codec_errors():
    import featurewire_codec.errors as errors

    leaves = [value for value in vars(errors).values() if isinstance(value, type)]
    assert all(issubclass(leaf, CodecError | Warning) for leaf in leaves)


@pytest.mark.parametrize(
    "asked",
    [{"snr_db": "25"}, {"snr_db": None}, {"max_error": "0.1"}, {"target_bits": [800]}],
    ids=str,
)
def test_a_quality_that_is_no_number_is_refused(asked):
    with pytest.raises(FeatureError, match="which is no number"):
        FeatureCodec().encode(np.ones((4, 8), np.float32), **asked)


def test_bytes_of_any_kind_are_decoded():
    feature = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    data = FeatureCodec().encode(feature, np.float32(20))
    decoded = FeatureCodec().decode(data)
    for other in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8)):
        assert torch.equal(FeatureCodec().decode(other), decoded)
