"""The one-sided mode as the codec uses it: calibrated, coded in chunks, refused where damaged."""

import numpy as np
import pytest
from featurewire_codec import ChunkError, FeatureCodec, Profile, ProfileError, encoder, inspect
from featurewire_codec.backend import load_backend
from featurewire_codec.fitting import fit_transforms
from safetensors.numpy import load_file, save_file
from synthetic_features import make_grid, make_one_sided

GRID = (20, 16)


@pytest.fixture
def codec(rectified_profile):
    return FeatureCodec(rectified_profile)


def snr_of(feature, rebuilt, energy):
    return 10 * np.log10(energy / np.mean((rebuilt - feature) ** 2))


def test_calibration_keeps_the_mode_for_rectified_features_on_a_grid(rectified_profile):
    rates = rectified_profile.report["bpfp_by_mode_and_snr_db"]
    assert rectified_profile.report["kept"] == "one-sided"
    assert rates["one-sided"]["15.0"] == min(rate["15.0"] for rate in rates.values())


def test_features_with_values_below_zero_are_never_tried_with_it():
    report = Profile.calibrate([make_grid(seed, 8, 8) for seed in range(6)], grid=(8, 8)).report
    assert "one-sided" not in report["bpfp_by_mode_and_snr_db"]


@pytest.mark.parametrize("snr_db", [5.0, 15.0, 30.0, 60.0])
def test_the_asked_snr_is_reached(codec, rectified_profile, snr_db):
    features = [make_one_sided(seed, *GRID) for seed in range(50, 90)]
    rebuilt = [codec.decode(codec.encode(one, snr_db, GRID)).numpy() for one in features]
    reached = snr_of(np.stack(features), np.stack(rebuilt), rectified_profile.energy)
    assert abs(reached - snr_db) < 0.3


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("grid", [GRID, (7, 5), (1, 30), (33, 1), None])
@pytest.mark.parametrize("prefix", [0, 3])
def test_any_grid_and_prefix_decode(codec, grid, prefix):
    rows, columns = grid or (6, 7)
    feature = np.concatenate([make_one_sided(9, 1, 3)[:prefix], make_one_sided(8, rows, columns)])
    data = codec.encode(feature, 25.0, grid)
    assert not inspect(data).chunks[0].plain
    assert np.abs(codec.decode(data).numpy() - feature).max() < 0.3


def test_it_costs_much_less_than_no_profile(codec):
    feature = make_one_sided(70, *GRID)
    assert len(codec.encode(feature, 15.0, GRID)) < 0.6 * len(FeatureCodec().encode(feature, 15.0))


def test_a_span_below_zero_is_coded_plainly_and_keeps_its_sign(codec):
    feature = make_one_sided(71, *GRID)
    feature[7, 3] = -50.0
    data = codec.encode(feature, 20.0, GRID)
    assert inspect(data).chunks[0].plain
    assert codec.decode(data).numpy()[7, 3] < -40


def test_rounding_noise_below_zero_costs_nothing(codec):
    feature = make_one_sided(72, *GRID)
    noisy = np.where(feature == 0, np.float32(-1e-4), feature)
    assert codec.encode(noisy, 20.0, GRID) == codec.encode(feature, 20.0, GRID)


def test_chunks_are_whole_rows_and_decode_in_any_order(codec, monkeypatch):
    monkeypatch.setattr(encoder, "CHUNK_FEATURES", 9 * 16 * 12)
    feature = np.concatenate([make_one_sided(73, 1, 2), make_one_sided(74, *GRID)])
    first, *rest = codec.encode_chunks(feature, 25.0, GRID)
    chunks = inspect(b"".join([first, *rest])).chunks
    assert [len(chunk.tokens) for chunk in chunks] == [2 + 8 * 16, 8 * 16, 4 * 16]
    decoder, rebuilt = codec.decoder(), np.zeros_like(feature)
    header = inspect(first + b"".join(rest)).header_bytes
    for piece in (first[:header], *reversed(rest), first[header:]):
        for rows in decoder.feed(piece):
            rebuilt[rows.tokens.start : rows.tokens.stop] = rows.values.numpy()
    decoder.finish()
    assert np.abs(rebuilt - feature).max() < 0.5


def test_the_effort_trellis_makes_the_same_chunks(codec):
    feature = make_one_sided(75, *GRID)
    data, other = (codec.encode(feature, 15.0, GRID, effort) for effort in ("fast", "trellis"))
    assert len(data) == len(other)
    np.testing.assert_array_equal(codec.decode(data), codec.decode(other))


def test_a_size_and_a_bound_are_met(codec):
    feature = make_one_sided(76, *GRID)
    data = codec.encode(feature, grid=GRID, target_bits=6000)
    assert 0.97 * 6000 <= 8 * len(data) <= 6000
    bounded = codec.decode(codec.encode(feature, grid=GRID, max_error=0.02)).numpy()
    assert np.abs(bounded - feature).max() <= 0.02


def test_giants_escape(codec):
    feature = make_one_sided(77, *GRID)
    feature[::37, 5] = 1e5
    data = codec.encode(feature, 20.0, GRID)
    rebuilt = codec.decode(data).numpy()
    assert not inspect(data).chunks[0].plain
    np.testing.assert_allclose(rebuilt[::37, 5], 1e5, rtol=1e-4)


def test_a_profile_reads_back_as_it_was(rectified_profile, tmp_path):
    rectified_profile.save_pretrained(tmp_path)
    again = Profile.from_pretrained(tmp_path)
    assert again.digest == rectified_profile.digest
    feature = make_one_sided(78, *GRID)
    data = FeatureCodec(rectified_profile).encode(feature, 15.0, GRID)
    assert FeatureCodec(again).encode(feature, 15.0, GRID) == data


def break_order(tensors):
    tensors["order"][0] = tensors["order"][1]


def break_bounds(tensors):
    tensors["bounds"][1] = tensors["bounds"][2]


def break_end(tensors):
    tensors["bounds"][-1] += 1


def break_neighbours(tensors):
    tensors["neighbour_weights"][2, 3, 1] = (1 << 13) + 1


def break_least(tensors):
    tensors["neighbour_weights"][2, 3, 1] = -(1 << 31)


def break_gains(tensors):
    tensors["gains"][0, 0] = 0


def break_shapes(tensors):
    tensors["shapes"][3] = 2


def break_mixture(tensors):
    tensors["mixture"][5, 1] = 128


def break_shares(tensors):
    tensors["mixture"][5, 2] = 8


def break_width(tensors):
    tensors["channel_weights"] = tensors["channel_weights"][:, :, :-1].copy()


@pytest.mark.parametrize(
    "damage",
    [
        break_order,
        break_bounds,
        break_end,
        break_neighbours,
        break_least,
        break_gains,
        break_shapes,
        break_mixture,
        break_shares,
        break_width,
    ],
)
def test_weights_out_of_range_are_refused(rectified_profile, tmp_path, damage):
    rectified_profile.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "profile.safetensors")
    damage(tensors)
    save_file(tensors, tmp_path / "profile.safetensors")
    with pytest.raises(ProfileError, match="damaged profile"):
        Profile.from_pretrained(tmp_path)


def test_damaged_words_are_refused(codec):
    feature = make_one_sided(79, *GRID)
    session = FeatureCodec(codec.profile, framing="session")
    data = bytearray(session.encode(feature, 15.0, GRID))
    for place in range(2, len(data), 7):
        altered = data.copy()
        altered[place] ^= 16
        with pytest.raises(ChunkError):
            session.decode(bytes(altered), shape=feature.shape, grid=GRID)


def test_wide_features_have_no_channel_matrix():
    rng = np.random.default_rng(0)
    features = [np.maximum(rng.normal(size=(64, 1030)), 0).astype(np.float32) for _ in range(5)]
    (wide,) = [
        transform
        for name, transform in fit_transforms(features, None, 1.0, codebooks=[])
        if name == "one-sided"
    ]
    assert wide.weights.matrix.shape == (7, 1030, 0)
    assert wide.weights.bounds == (0, 1030)


def test_compiled_loops_find_the_contexts_of_the_plain_ones(rectified_profile, with_backend):
    assert load_backend().name == "numba"
    feature, streams = make_one_sided(80, 37, 23), []
    feature[::5] *= 3000
    for name in ("numba", "constriction"):
        with_backend(name)
        codec = FeatureCodec(rectified_profile)
        streams.append([codec.encode(feature, snr_db, (37, 23)) for snr_db in (-5.0, 12.0, 80.0)])
        for data in streams[0]:
            codec.decode(data)
    assert streams[0] == streams[1]
