"""Profiles: saving, strict loading, digests, calibration."""

import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from featurewire_codec import CalibrationWarning, FeatureCodec, FeatureError, Profile, ProfileError
from featurewire_codec.dt_ufc import DtUfcProfile
from featurewire_codec.transform import Identity
from safetensors.numpy import load_file, save_file
from synthetic_features import make_grid, make_tokens, make_words

PROFILES = ["identity_profile", "token_profile", "grid_profile", "codebook_profile"]


@pytest.fixture(scope="module")
def identity_profile(token_profile) -> Profile:
    transform = Identity(token_profile.transform.mean)
    return replace(token_profile, transform=transform)


@pytest.mark.parametrize("which", PROFILES)
def test_there_is_a_profile_of_each_mode(which, request):
    modes = dict(zip(PROFILES, ["identity", "klt", "dct", "codebook"], strict=True))
    assert request.getfixturevalue(which).transform.mode == modes[which]


@pytest.mark.parametrize("which", PROFILES)
def test_a_saved_profile_loads_equal(which, request, tmp_path):
    profile = request.getfixturevalue(which)
    profile.save_pretrained(tmp_path / "deep" / "folder")
    loaded = Profile.from_pretrained(tmp_path / "deep" / "folder")
    assert loaded.digest == profile.digest
    assert loaded.channels == profile.channels
    assert json.dumps(loaded.report) == json.dumps(profile.report)


@pytest.mark.parametrize("which", PROFILES)
def test_a_loaded_profile_encodes_and_decodes_alike(which, request, tmp_path):
    profile = request.getfixturevalue(which)
    profile.save_pretrained(tmp_path)
    feature, grid = make_words(3, 30, profile.channels), None
    if which == "grid_profile":
        feature, grid = make_grid(3, 6, 5), (6, 5)
    data = FeatureCodec(profile).encode(feature, grid=grid)
    loaded = FeatureCodec(Profile.from_pretrained(tmp_path))
    assert loaded.encode(feature, grid=grid) == data
    assert (loaded.decode(data) == FeatureCodec(profile).decode(data)).all()


@pytest.mark.parametrize("which", PROFILES)
def test_the_digest_is_what_the_specification_says(which, request, tmp_path):
    """As BITSTREAM.md describes it, from the files alone."""
    request.getfixturevalue(which).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    named = config.pop("digest")
    config.pop("report")
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode("ascii"))
    for name, array in sorted(load_file(tmp_path / "profile.safetensors").items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode("ascii"))
        digest.update(array.tobytes())
    assert digest.hexdigest() == named


@pytest.mark.parametrize("which", PROFILES)
def test_every_tensor_and_setting_is_in_the_digest(which, request, tmp_path):
    profile = request.getfixturevalue(which)
    profile.save_pretrained(tmp_path)
    for name, array in load_file(tmp_path / "profile.safetensors").items():
        changed = array.copy()
        first = changed.reshape(-1)
        first[0] = first[0] + 1 if array.dtype.kind == "f" else first[0] ^ 1
        assert not np.array_equal(changed, array)
        edit_tensors(tmp_path, **{name: changed})
        with pytest.raises(ProfileError, match="has the digest"):
            Profile.from_pretrained(tmp_path)
        edit_tensors(tmp_path, **{name: array})
    assert Profile.from_pretrained(tmp_path).digest == profile.digest
    edit_config(tmp_path, energy=profile.energy * 2)
    with pytest.raises(ProfileError, match="has the digest"):
        Profile.from_pretrained(tmp_path)


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(folder, **changes):
    tensors = load_file(folder / "profile.safetensors") | changes
    save_file({k: v for k, v in tensors.items() if v is not None}, folder / "profile.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 1},
        {"format": 3},
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
        {"step_exponents": [10, 20], "snr_db": [3.0, 4.0], "trellis_snr_db": []},
        {"step_exponents": {"a": 1}},
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
        {"offsets": np.full(32, -(1 << 31), np.int32)},
        {"matrix": np.zeros((32, 31), np.float32)},
        {"matrix": np.eye(32, dtype=np.float32)},
    ],
)
def test_damaged_tensors_are_refused(changes, token_profile, tmp_path):
    token_profile.save_pretrained(tmp_path)
    edit_tensors(tmp_path, **changes)
    with pytest.raises(ProfileError, match=r"holds a damaged profile|has the digest"):
        Profile.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"group": np.full(10**4, 200, np.uint8)},
        {"group": None},
        {"counts": "zero"},
        {"counts": "negative"},
        {"counts": "huge"},
        {"spreads": "zero"},
        {"codewords": "none"},
        {"matrices": "one fewer"},
        {"scales": "nan"},
        {"scales": "negative"},
    ],
    ids=str,
)
def test_damaged_codebooks_are_refused(changes, codebook_profile, tmp_path):
    codebook_profile.save_pretrained(tmp_path)
    (name, damage), tensors = (
        next(iter(changes.items())),
        load_file(tmp_path / "profile.safetensors"),
    )
    array = tensors[name].copy()
    if isinstance(damage, np.ndarray):
        array = damage[: len(array)]
    elif damage == "none":
        array = array[:0]
    elif damage == "one fewer":
        array = array[1:]
    elif damage is not None:
        values = {"zero": 0, "negative": -1, "huge": 2**40, "nan": np.nan}
        array[...] = values[damage]
    edit_tensors(tmp_path, **{name: None if damage is None else array})
    with pytest.raises(ProfileError, match=r"holds a damaged profile"):
        Profile.from_pretrained(tmp_path)


@pytest.mark.parametrize("changes", [{"block": 1}, {"block": 17}, {"block": None}, {"block": 3}])
def test_a_damaged_block_size_is_refused(changes, grid_profile, tmp_path):
    grid_profile.save_pretrained(tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(ProfileError, match="holds a damaged profile"):
        Profile.from_pretrained(tmp_path)


def raw_tensors(kind: str, shape: list[int], size: int) -> bytes:
    head = json.dumps({"mean": {"dtype": kind, "shape": shape, "data_offsets": [0, size]}})
    return len(head).to_bytes(8, "little") + head.encode() + bytes(size)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"[" * 200_000),
        ("config.json", b"[1, 2]"),
        ("config.json", b" " * (1 << 23)),
        ("config.json", b'{"format": NaN'),
        ("profile.safetensors", raw_tensors("BF16", [2], 4)),
        ("profile.safetensors", raw_tensors("F8_E4M3", [4], 4)),
        ("profile.safetensors", raw_tensors("F32", [2], 4)),
    ],
)
@pytest.mark.parametrize("kind", [Profile, DtUfcProfile])
def test_files_that_a_server_may_send_raise_the_profiles_error_only(
    kind, name, content, token_profile, tmp_path
):
    token_profile.save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProfileError, match=re.escape(str(tmp_path))):
        kind.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe"])
def test_a_folder_without_a_profile_is_refused(content, tmp_path):
    with pytest.raises(ProfileError, match="holds no profile"):
        Profile.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    (tmp_path / "profile.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ProfileError, match="holds no profile"):
        Profile.from_pretrained(tmp_path)


@pytest.mark.parametrize("which", PROFILES[1:])
def test_calibration_keeps_the_mode_that_codes_smallest(which, request):
    profile = request.getfixturevalue(which)
    figures = profile.report["bpfp_by_mode_and_snr_db"]
    best = min(figures, key=lambda name: sum(figures[name].values()))
    assert best == profile.report["kept"]
    assert best.startswith(profile.transform.mode)
    assert {"identity", "klt"} < set(figures)


def test_giants_do_not_make_a_profile_worse_for_other_tokens():
    """The first token of each sample has one, as massive activations do."""
    calm = [make_words(seed, 200) for seed in range(10)]
    wild = [feature.copy() for feature in calm]
    for feature in wild:
        feature[0, 5] = 5000.0
    one, other = Profile.calibrate(calm), Profile.calibrate(wild)
    assert other.energy < 2 * one.energy
    test = make_words(77, 300)
    sizes = [len(FeatureCodec(profile).encode(test, 15)) for profile in (one, other)]
    assert sizes[1] < 1.1 * sizes[0]


def test_giants_set_the_scale_of_nothing():
    calm = Profile.calibrate([make_tokens(seed, 100, giants=False) for seed in range(20)])
    wild = Profile.calibrate([make_tokens(seed, 100, giants=True) for seed in range(20)])
    assert wild.energy < 2 * calm.energy  # 250 times, were giants counted in full


def test_kinds_of_samples_that_stand_alone_warn_that_calibration_is_narrow():
    alike = [make_tokens(seed, 200) for seed in range(10)]
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(32, 32)))[0]
    others = [(a @ turned).astype(np.float32) if n % 5 == 4 else a for n, a in enumerate(alike)]
    assert Profile.calibrate(alike).report["fitted_bpfp_at_15_db"] > 0
    with pytest.warns(CalibrationWarning, match="held-out samples take .* more bits"):
        Profile.calibrate(others)


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


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"samples": 5}, "list of features"),
        ({"samples": ["features.npy"]}, "numpy array or a torch tensor, this one is a str"),
        ({"grid": 5}, "two whole numbers"),
        ({"grid": "ab"}, "two whole numbers"),
        ({"metric": "x"}, "a metric is a numpy array"),
        ({"metric": np.eye(4), "task_error": lambda number, decoded: "much"}, "'much'"),
        ({"metric": np.eye(4), "task_error": lambda number, decoded: float("nan")}, "nan"),
    ],
)
def test_arguments_of_other_types_are_refused_by_name(given, named):
    samples = [np.random.default_rng(seed).normal(size=(90, 4)) for seed in range(6)]
    with pytest.raises(FeatureError, match=named):
        Profile.calibrate(**{"samples": samples} | given)


def test_a_grid_may_be_any_pair():
    samples = [np.random.default_rng(seed).normal(size=(64, 4)) for seed in range(6)]
    assert Profile.calibrate(samples, grid=[8, 8]).report["grid"] == (8, 8)
