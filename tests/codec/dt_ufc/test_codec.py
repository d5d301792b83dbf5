"""DtUfcCodec: round trips, rates, the quality knob, refusals."""

import copy
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from featurewire_codec import BitstreamError, FeatureError, ProfileError
from featurewire_codec.dt_ufc import DtUfcCodec, DtUfcProfile, plane, quality
from featurewire_codec.dt_ufc.hyperprior import gaussian_probability
from featurewire_codec.dt_ufc.kmeans import to_indices, to_values
from featurewire_codec.dt_ufc.plane import Plane
from featurewire_codec.dt_ufc.stream import read_header
from featurewire_codec.dt_ufc.weights import load_networks
from featurewire_codec.feature import energy
from synthetic_features import make_grid, make_tokens


def snr_db(feature, decoded):
    error = np.mean((feature - decoded.numpy()) ** 2, dtype=np.float64)
    return 10 * np.log10(energy(feature) / error)


def best_coder():
    return load_networks().coders[-1]


def test_decoding_equals_the_quantised_path_without_coding(latent_profile, latents):
    codec = DtUfcCodec(latent_profile)
    data = codec.encode(latents, 99, grid=(24, 24))
    coder = load_networks().coders[read_header(data)[0].quality]
    layout = Plane.of(576, 16, (24, 24))
    picture = layout.pack(to_indices(latents, latent_profile.centres, "nearest"))
    quantised = coder.plane(coder.latents(picture)[0])
    wanted = to_values(layout.unpack(quantised), latent_profile.centres)
    np.testing.assert_array_equal(codec.decode(data).numpy(), wanted)


def test_real_bytes_are_within_two_percent_of_the_ideal_code_length(latent_profile):
    feature = make_grid(5, 64, 64, channels=16)
    codec = DtUfcCodec(latent_profile)
    for asked in latent_profile.snrs_db:
        data = codec.encode(feature, asked, grid=(64, 64))
        header, header_bytes = read_header(data)
        coder = load_networks().coders[header.quality]
        picture = Plane.of(4096, 16, (64, 64)).pack(
            to_indices(feature, latent_profile.centres, "nearest")
        )
        coded = 8 * (len(data) - header_bytes)
        assert coded == pytest.approx(ideal_bits(coder, picture), rel=0.02)


@torch.inference_mode()
def ideal_bits(coder, picture):
    """By the network's own probabilities, without the 64 steps of its scales."""
    numbers = [torch.from_numpy(array).float()[None] for array in coder.latents(picture)]
    latents, hyper_latents = numbers
    network = coder._network
    own = gaussian_probability(latents, network.scales(hyper_latents))
    return float(-own.log2().sum() - network.density(hyper_latents).log2().sum())


def test_a_smooth_feature_keeps_its_shape_at_a_few_bits(latent_profile, latents):
    codec = DtUfcCodec(latent_profile)
    data = codec.encode(latents, 99, grid=(24, 24))
    assert 8 * len(data) < 5 * latents.size
    assert snr_db(latents, codec.decode(data)) > 6


def test_the_grid_is_worth_something_on_smooth_latents():
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.normal(size=(1, 16, 12, 12))).float()
    smooth = torch.nn.functional.interpolate(coarse, (48, 48), mode="bicubic")
    latents = smooth[0].permute(1, 2, 0).reshape(-1, 16).numpy()
    codec = DtUfcCodec()
    on_grid, as_tokens = codec.encode(latents, 99, grid=(48, 48)), codec.encode(latents, 99)
    assert len(on_grid) < 0.85 * len(as_tokens)
    assert snr_db(latents, codec.decode(on_grid)) > snr_db(latents, codec.decode(as_tokens))


def test_the_knob_takes_the_cheapest_network_that_is_enough_else_the_best(latent_profile, latents):
    codec = DtUfcCodec(latent_profile)
    reached = latent_profile.snrs_db
    taken = {
        asked: read_header(codec.encode(latents, asked, grid=(24, 24)))[0].quality
        for asked in (-30.0, *reached, 99.0)
    }
    assert taken[-30.0] == int(np.argmin(reached))
    assert taken[99.0] == int(np.argmax(reached))
    assert [taken[asked] for asked in reached] == list(range(len(reached)))


def test_the_first_network_that_is_enough_is_chosen_whatever_dearer_ones_reach():
    snrs_db = (3.0, 6.0, 5.5)
    asked = (-30.0, 3.0, 3.1, 5.5, 5.8, 6.0, 6.1, 99.0)
    assert [quality.choose(snrs_db, snr) for snr in asked] == [0, 0, 1, 1, 1, 1, 1, 1]


def test_without_a_profile_the_knob_measures_the_feature(latents):
    codec, asked, sizes = DtUfcCodec(), -30.0, []
    for network in range(len(load_networks().coders)):
        data = codec.encode(latents, asked, grid=(24, 24))
        assert read_header(data)[0].quality == network
        sizes.append(len(data))
        asked = snr_db(latents, codec.decode(data)) + 0.05  # a little more than it reaches
    assert sizes == sorted(set(sizes))
    assert codec.encode(latents, 99, grid=(24, 24)) == data  # the best there is
    assert asked > 6


@pytest.mark.parametrize("snrs_db", [(), (1.0,), (1.0, 2.0, 3.0, 4.0)])
def test_a_profile_with_other_than_one_snr_a_network_is_refused(snrs_db, latent_profile):
    with pytest.raises(ProfileError, match=f"{len(snrs_db)} SNRs for 3 networks"):
        DtUfcCodec(dataclasses.replace(latent_profile, snrs_db=snrs_db))


def test_the_two_forms_decode_alike_and_the_published_one_is_worse(latents):
    profile = DtUfcProfile.calibrate([latents], grid=(24, 24))
    nearest, published = DtUfcCodec(profile), DtUfcCodec(profile, form="published")
    data = published.encode(latents, 99, grid=(24, 24))
    assert data != nearest.encode(latents, 99, grid=(24, 24))
    assert torch.equal(nearest.decode(data), published.decode(data))
    with pytest.raises(FeatureError, match="nearest or published"):
        DtUfcCodec(profile, form="floor")


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((1, 1), None),
        ((1, 384), None),
        ((3, 5000), None),
        ((7, 31), None),
        ((65, 65), None),
        ((35, 7), (5, 7)),
        ((36, 7), (5, 7)),
        ((4, 64), (2, 2)),
    ],
)
@pytest.mark.parametrize("profiled", [False, True])
def test_any_shape_round_trips(shape, grid, profiled):
    feature = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    profile = DtUfcProfile.calibrate([feature], grid) if profiled else None
    codec = DtUfcCodec(profile)
    decoded = codec.decode(codec.encode(feature, 25, grid))
    assert decoded.shape == shape
    assert decoded.dtype == torch.float32
    assert torch.isfinite(decoded).all()
    assert np.abs(decoded.numpy()).max() <= np.abs(feature).max() * 1.001


def test_chunks_join_to_the_stream_and_every_one_is_a_plane_of_its_own(monkeypatch):
    monkeypatch.setattr(plane, "MAX_PIXELS", 1 << 14)
    feature = make_tokens(3, 300, channels=64)
    codec = DtUfcCodec()
    chunks = list(codec.encode_chunks(feature, -30))
    assert len(chunks) == 2
    assert b"".join(chunks) == codec.encode(feature, -30)
    assert codec.decode(b"".join(chunks)).shape == feature.shape


def test_encoding_and_decoding_repeat_themselves_at_any_number_of_threads(latents):
    codec, before = DtUfcCodec(), torch.get_num_threads()
    streams, decoded = [], []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            streams += [codec.encode(latents, 25, (24, 24)) for _ in range(2)]
            decoded += [codec.decode(streams[0]) for _ in range(2)]
    finally:
        torch.set_num_threads(before)
    assert streams[0] == streams[1]
    assert streams[2] == streams[3]
    assert torch.equal(decoded[0], decoded[1])
    assert float((decoded[0] - decoded[2]).square().mean()) < 1e-4 * energy(latents)


@pytest.mark.parametrize("value", [0.0, 3.5, -1e17, 1e-10])
def test_a_constant_feature_comes_back(value):
    feature = np.full((9, 4), value, np.float32)
    decoded = DtUfcCodec().decode(DtUfcCodec().encode(feature)).numpy()
    np.testing.assert_allclose(decoded, feature, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_dtype_encodes_like_its_float32(dtype, token_profile):
    feature = torch.from_numpy(make_tokens(2, 20)).to(dtype)
    codec = DtUfcCodec(token_profile)
    assert codec.encode(feature) == codec.encode(feature.float().numpy())


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        (np.zeros((0, 4), np.float32), "at least one value"),
        (np.zeros(4, np.float32), "tokens, channels"),
        (np.zeros((2, 3), np.int32), "float type"),
        (np.array([[1, np.nan]], np.float32), "NaN"),
        (torch.tensor([[1, float("inf")]]), "NaN or infinities"),
        (np.zeros((1, 16385), np.float32), "beyond"),
    ],
)
def test_what_is_no_feature_is_refused(feature, words):
    with pytest.raises(FeatureError, match=words):
        DtUfcCodec().encode(feature)


@pytest.mark.parametrize("grid", [(0, 3), (-1, -2), (4, 4)])
def test_a_grid_that_does_not_fit_is_refused(grid):
    with pytest.raises(FeatureError, match="grid"):
        DtUfcCodec().encode(np.ones((9, 2), np.float32), grid=grid)


@pytest.mark.parametrize("snr", [float("nan"), -31, 121])
def test_an_snr_out_of_range_is_refused(snr):
    with pytest.raises(FeatureError, match="snr_db"):
        DtUfcCodec().encode(np.ones((2, 2), np.float32), snr)


def test_another_profile_is_refused_and_both_are_named(token_profile, latent_profile, latents):
    data = DtUfcCodec(latent_profile).encode(latents)
    with pytest.raises(ProfileError) as caught:
        DtUfcCodec(token_profile).decode(data)
    assert token_profile.digest[:16] in str(caught.value)
    assert latent_profile.digest[:16] in str(caught.value)
    with pytest.raises(ProfileError, match=f"{latent_profile.digest[:16]}, none is set"):
        DtUfcCodec().decode(data)
    with pytest.raises(ProfileError, match="16 channels, the profile is for 32"):
        DtUfcCodec(token_profile).encode(latents)


def test_a_profile_is_read_as_it_was_saved(token_profile, tmp_path):
    token_profile.save_pretrained(tmp_path)
    read = DtUfcProfile.from_pretrained(tmp_path)
    assert read.digest == token_profile.digest
    feature = make_tokens(50, 30)
    data = DtUfcCodec(token_profile).encode(feature, 5)
    assert DtUfcCodec(read).encode(feature, 5) == data
    assert (tmp_path / "profile.safetensors").stat().st_size < 1200


@pytest.mark.parametrize(
    ("old", "new"),
    [('"channels": 32', '"channels": 33'), ('"format": 1', '"format": 2'), ("{", "["), ('"', "")],
)
def test_a_damaged_profile_is_refused(token_profile, tmp_path, old, new):
    token_profile.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(ProfileError):
        DtUfcProfile.from_pretrained(tmp_path)


def test_a_profile_of_other_networks_is_refused(token_profile):
    other = DtUfcProfile(32, token_profile.centres, (1.0,), "00000000")
    with pytest.raises(ProfileError, match="00000000"):
        DtUfcCodec(other)


def test_a_difference_in_arithmetic_is_found_and_does_not_decode_to_noise(latents):
    coder = best_coder()
    picture = Plane.of(576, 16, (24, 24)).pack(
        to_indices(latents, np.linspace(-9, 9, 256, dtype=np.float32), "nearest")
    )
    words, checksum = coder.encode(picture)
    elsewhere = copy.deepcopy(coder._hyper_synthesis)
    elsewhere[-1].bias.data += 0.1
    coder._hyper_synthesis, own = elsewhere, coder._hyper_synthesis
    try:
        with pytest.raises(BitstreamError, match="arithmetic differs"):
            coder.decode(words, checksum, picture.shape)
    finally:
        coder._hyper_synthesis = own


def test_importing_it_imports_no_torch():
    code = "import sys, featurewire_codec.dt_ufc; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
