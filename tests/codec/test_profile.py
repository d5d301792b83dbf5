"""Profiles: saving, strict loading, digests, calibration."""

import json

import numpy as np
import pytest
from featurewire_codec import CalibrationWarning, FeatureCodec, FeatureError, Profile, ProfileError
from safetensors.numpy import load_file, save_file
from synthetic_features import make_grid, make_tokens


@pytest.mark.parametrize("which", ["token_profile", "grid_profile"])
def test_a_saved_profile_loads_equal(which, request, tmp_path):
    profile = request.getfixturevalue(which)
    profile.save_pretrained(tmp_path / "deep" / "folder")
    loaded = Profile.from_pretrained(tmp_path / "deep" / "folder")
    assert loaded.digest == profile.digest
    assert loaded.channels == profile.channels
    assert json.dumps(loaded.report) == json.dumps(profile.report)


def test_a_loaded_profile_encodes_and_decodes_alike(token_profile, tmp_path):
    token_profile.save_pretrained(tmp_path)
    feature = make_tokens(3, 30)
    data = FeatureCodec(token_profile).encode(feature)
    loaded = FeatureCodec(Profile.from_pretrained(tmp_path))
    assert loaded.encode(feature) == data
    assert (loaded.decode(data) == FeatureCodec(token_profile).decode(data)).all()


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder, **changes):
    tensors = load_file(folder / "profile.safetensors") | changes
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / "profile.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 2},
        {"mode": "pickle"},
        {"channels": 31},
        {"channels": "32"},
        {"channels": None},
        {"energy": 0.0},
        {"energy": float("nan")},
        {"energy": 2.0},
        {"snr_db": [1.0]},
        {"step_exponents": [], "snr_db": []},
        {"step_exponents": [10**12], "snr_db": [3.0]},
        {"digest": "00"},
        {"report": None},
    ],
)
def test_a_damaged_config_is_refused(changes, token_profile, tmp_path):
    token_profile.save_pretrained(tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(ProfileError, match=r"holds a damaged profile|has the digest"):
        Profile.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": None},
        {"extra": np.zeros(1, np.float32)},
        {"mean": np.zeros(31, np.float32)},
        {"mean": np.zeros(32, np.float64)},
        {"mean": np.full(32, np.nan, np.float32)},
        {"offsets": np.full(32, 4000, np.int32)},
        {"matrix": np.zeros((32, 31), np.float32)},
        {"matrix": np.eye(32, dtype=np.float32)},
    ],
)
def test_damaged_tensors_are_refused(changes, token_profile, tmp_path):
    token_profile.save_pretrained(tmp_path)
    edit_tensors(tmp_path, **changes)
    with pytest.raises(ProfileError, match=r"holds a damaged profile|has the digest"):
        Profile.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe"])
def test_a_folder_without_a_profile_is_refused(content, tmp_path):
    with pytest.raises(ProfileError, match="holds no profile"):
        Profile.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    (tmp_path / "profile.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ProfileError, match="holds no profile"):
        Profile.from_pretrained(tmp_path)


def test_calibration_picks_the_mode_that_codes_smallest(token_profile, grid_profile):
    for profile, mode in ((token_profile, "klt"), (grid_profile, "dct")):
        figures = profile.report["bpfp_by_mode_and_snr_db"]
        assert min(figures, key=lambda name: sum(figures[name].values())).startswith(mode)
        assert profile.transform.mode == mode


def test_independent_channels_keep_the_identity():
    rng = np.random.default_rng(0)
    samples = [np.maximum(rng.normal(size=(64, 8)), 0).astype(np.float32) for _ in range(20)]
    assert Profile.calibrate(samples).transform.mode == "identity"


def test_giants_set_the_scale_of_nothing():
    calm = Profile.calibrate([make_tokens(seed, 100, giants=False) for seed in range(20)])
    wild = Profile.calibrate([make_tokens(seed, 100, giants=True) for seed in range(20)])
    assert wild.energy < 2 * calm.energy  # 250 times, were giants counted in full


def test_too_few_tokens_warn_and_still_make_a_profile():
    with pytest.warns(CalibrationWarning, match="40 calibration tokens for 32 channels"):
        profile = Profile.calibrate([make_tokens(1, 40)])
    assert FeatureCodec(profile).decode(FeatureCodec(profile).encode(make_tokens(2, 9))).shape


@pytest.mark.filterwarnings("ignore::featurewire_codec.CalibrationWarning")
@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (2, 3)])
def test_the_smallest_samples_calibrate(shape):
    profile = Profile.calibrate([np.ones(shape, np.float32)])
    data = FeatureCodec(profile).encode(np.ones(shape, np.float32))
    assert FeatureCodec(profile).decode(data).shape == shape


@pytest.mark.filterwarnings("ignore::featurewire_codec.CalibrationWarning")
def test_one_sample_on_a_grid_calibrates():
    profile = Profile.calibrate([make_grid(0, 5, 9, prefix=2)], grid=(5, 9))
    assert FeatureCodec(profile).encode(make_grid(1, 6, 6, prefix=2), grid=(6, 6))


def test_samples_that_fit_nothing_are_refused():
    with pytest.raises(FeatureError, match="at least one"):
        Profile.calibrate([])
    with pytest.raises(FeatureError, match="one width"):
        Profile.calibrate([np.ones((3, 4), np.float32), np.ones((3, 5), np.float32)])
    with pytest.raises(FeatureError, match="grid"):
        Profile.calibrate([np.ones((3, 4), np.float32)], grid=(2, 2))
