"""Task weights: bits go where a metric minds errors, or nowhere else than before."""

import json
import warnings

import numpy as np
import pytest
from featurewire_codec import CalibrationWarning, FeatureCodec, FeatureError, Profile, ProfileError
from featurewire_codec.session import SessionCodec
from featurewire_codec.span import Coding
from featurewire_codec.task_weight import checked_metric, half_strength
from safetensors.numpy import load_file, save_file
from synthetic_features import make_grid, make_tokens

CHANNELS = 32


def make_metric(channels: int = CHANNELS, directions: int = 4) -> np.ndarray:
    """Gradients that lie in a few directions, none of them a channel's own."""
    spanned = np.random.default_rng(5).normal(size=(directions, channels))
    return spanned.T @ spanned


def make_clusters(seed: int, tokens: int) -> np.ndarray:
    """Tokens around 24 means, so that a codebook is kept."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(1).normal(size=(24, CHANNELS)) * 3
    own = means[rng.integers(24, size=tokens)]
    return (own + make_tokens(seed, tokens, giants=False) * 0.1).astype(np.float32)


def code(profile: Profile, samples: list, snr_db: float, metric: np.ndarray, grid=None):
    """Bits, the task's error and the squared error, per feature point."""
    codec, coded, task, plain = FeatureCodec(profile), 0, 0.0, 0.0
    for sample in samples:
        data = codec.encode(sample, snr_db, grid)
        missed = codec.decode(data).numpy().astype(np.float64) - sample
        coded, plain = coded + 8 * len(data), plain + np.sum(missed**2)
        task += np.sum((missed @ metric) * missed)
    points = sum(sample.size for sample in samples)
    return coded / points, task / points, plain / points


@pytest.fixture(scope="module")
def task_profile() -> Profile:
    samples = [make_tokens(seed, 100) for seed in range(20)]
    return Profile.calibrate(samples, metric=make_metric())


def test_the_task_minds_the_errors_less_at_equal_bits(token_profile, task_profile):
    tests = [make_tokens(seed, 100) for seed in range(50, 60)]
    metric = make_metric()
    for snr_db in (12.0, 20.0):
        bits, error, _ = code(token_profile, tests, snr_db, metric)
        fewer_bits, less_error, _ = code(task_profile, tests, snr_db - 1.5, metric)
        assert fewer_bits < bits
        assert less_error < 0.6 * error


def test_the_snr_asked_for_is_that_of_the_features(task_profile):
    tests = [make_tokens(seed, 100) for seed in range(50, 60)]
    for snr_db in (10.0, 15.0, 25.0):
        _, _, squared = code(task_profile, tests, snr_db, make_metric())
        reached = 10 * np.log10(task_profile.energy / squared)
        assert abs(reached - snr_db) < 0.3


def test_the_report_says_what_was_kept_and_why(task_profile):
    report = task_profile.report
    assert report["kept"] == "klt, task"
    assert report["task"]["kept"]
    assert "klt, task takes" in report["task"]["because"]
    rates = report["task"]["bpfp_at_equal_error"]
    assert set(rates) == {"klt", "klt, task"}
    assert all(rates["klt, task"][snr_db] < rates["klt"][snr_db] for snr_db in rates["klt"])
    assert {"klt", "klt, task"} <= set(report["bpfp_by_mode_and_snr_db"])


def test_what_the_task_itself_gets_wrong_decides():
    samples, minded = [make_tokens(seed, 100) for seed in range(20)], make_metric()
    asked = set()

    def measure(metric: np.ndarray, number: int, decoded: np.ndarray) -> float:
        asked.add(number)
        missed = decoded - samples[number]
        return float(np.sum((missed @ metric) * missed))

    plain = Profile.calibrate(
        samples, metric=minded, task_error=lambda *sample: measure(np.eye(CHANNELS), *sample)
    )
    assert not plain.report["task"]["kept"]  # a task that minds every error alike
    assert "at the same error of the task" in plain.report["task"]["because"]
    kept = Profile.calibrate(
        samples, metric=minded, task_error=lambda *sample: measure(minded, *sample)
    )
    assert kept.report["task"]["kept"]
    assert asked == {4, 9, 14, 19}  # those held out


@pytest.mark.filterwarnings("ignore::featurewire_codec.CalibrationWarning")
def test_samples_that_were_cut_are_judged_by_the_metric():
    samples = [make_tokens(seed, 100) for seed in range(3)]
    profile = Profile.calibrate(samples, metric=make_metric(), task_error=lambda *_: 1 / 0)
    assert "by the metric" in profile.report["task"]["because"]


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_a_metric_without_preference_changes_nothing(scale, token_profile):
    samples = [make_tokens(seed, 100) for seed in range(20)]
    profile = Profile.calibrate(samples, metric=np.eye(CHANNELS) * scale)
    assert not profile.report["task"]["kept"]
    assert profile.transform.weight is None
    assert profile.digest == token_profile.digest


@pytest.mark.filterwarnings("ignore::featurewire_codec.CalibrationWarning")
@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (np.eye(CHANNELS - 1), "of shape"),
        (np.ones(CHANNELS), "of shape"),
        (np.eye(CHANNELS, dtype=np.int64), "int64"),
        (np.full((CHANNELS, CHANNELS), np.nan), "finite"),
        (np.diag([np.inf] + [1.0] * (CHANNELS - 1)), "finite"),
        (np.triu(np.ones((CHANNELS, CHANNELS))), "symmetric"),
        (np.zeros((CHANNELS, CHANNELS)), "not zero"),
        (-np.eye(CHANNELS), "positive semi-definite"),
        (np.diag([-1.0] + [1.0] * (CHANNELS - 1)), "positive semi-definite"),
    ],
)
def test_what_is_no_metric_is_refused(metric, message):
    with pytest.raises(FeatureError, match=message):
        Profile.calibrate([make_tokens(1, 40)], metric=metric)


def test_a_metric_may_be_a_tensor_and_of_any_scale():
    torch = pytest.importorskip("torch")
    metric = make_metric()
    first = half_strength(checked_metric(metric, CHANNELS))
    again = half_strength(checked_metric(torch.tensor(metric * 1e6), CHANNELS))
    assert np.allclose(first.matrix, again.matrix, rtol=1e-4, atol=1e-6)


def test_white_error_in_weighted_features_keeps_its_size_undone():
    weight = half_strength(checked_metric(make_metric(), CHANNELS))
    assert np.isclose(np.sum(weight.inverse.astype(np.float64) ** 2), CHANNELS)
    assert np.allclose(weight.matrix @ weight.inverse, np.eye(CHANNELS), atol=1e-5)


@pytest.fixture(scope="module")
def task_profiles(task_profile) -> dict[str, Profile]:
    """One kept profile of each mode that takes a weight, and a feature for it."""
    clusters = Profile.calibrate(
        [make_clusters(seed, 100) for seed in range(20)], metric=make_metric()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)
        grid = Profile.calibrate(
            [make_grid(seed, 16, 16, prefix=1) for seed in range(12)],
            grid=(16, 16),
            metric=make_metric(6, 1),
        )
    return {"klt": task_profile, "codebook": clusters, "dct": grid}


FEATURES = {
    "klt": (make_tokens(70, 90), None),
    "codebook": (make_clusters(70, 90), None),
    "dct": (make_grid(70, 13, 16, prefix=2), (13, 16)),
}


@pytest.mark.parametrize("mode", ["klt", "codebook", "dct"])
def test_every_mode_with_a_matrix_takes_a_weight(mode, task_profiles):
    profile, (feature, grid) = task_profiles[mode], FEATURES[mode]
    assert profile.transform.mode == mode
    assert profile.transform.weight is not None
    _, _, squared = code(profile, [feature], 55.0, np.eye(feature.shape[1]), grid)
    assert 10 * np.log10(profile.energy / squared) > 53.0


@pytest.mark.parametrize("mode", ["klt", "codebook", "dct"])
def test_a_saved_profile_with_a_weight_codes_alike(mode, task_profiles, tmp_path):
    profile, (feature, grid) = task_profiles[mode], FEATURES[mode]
    profile.save_pretrained(tmp_path)
    loaded = Profile.from_pretrained(tmp_path)
    assert loaded.digest == profile.digest
    assert json.dumps(loaded.report) == json.dumps(profile.report)
    data = FeatureCodec(profile).encode(feature, 20.0, grid)
    assert FeatureCodec(loaded).encode(feature, 20.0, grid) == data
    decoded = FeatureCodec(loaded).decode(data)
    assert (decoded == FeatureCodec(profile).decode(data)).all()


@pytest.mark.parametrize("mode", ["klt", "codebook", "dct"])
def test_a_session_codes_with_a_weight(mode, task_profiles):
    profile, (feature, grid) = task_profiles[mode], FEATURES[mode]
    codec = FeatureCodec(profile, framing="session")
    decoded = codec.decode(codec.encode(feature, 20.0, grid), shape=feature.shape, grid=grid)
    whole = FeatureCodec(profile)
    assert (decoded == whole.decode(whole.encode(feature, 20.0, grid))).all()


def test_codewords_adapt_with_a_weight(task_profiles):
    profile = task_profiles["codebook"]
    sender, receiver, fixed = SessionCodec(profile), SessionCodec(profile), FeatureCodec(profile)
    sizes = []
    for seed in range(80, 86):
        feature = make_clusters(seed, 64) + np.float32(0.5)
        data = sender.encode(feature, 40.0)
        missed = receiver.decode(data, shape=feature.shape).numpy() - feature
        assert 10 * np.log10(profile.energy / np.mean(missed**2)) > 38.5
        sizes.append(len(data) / len(fixed.encode(feature, 40.0)))
    assert sizes[-1] < 0.7 * sizes[0]


def test_codewords_that_adapt_are_found_with_a_weight(task_profiles):
    profile = task_profiles["codebook"]
    feature = make_clusters(71, 60)
    fixed, adaptive = Coding(profile).transform, Coding(profile, adaptive=True).transform
    assert (fixed.search(feature) == adaptive.search(feature)).mean() > 0.95


def edited(folder, **changes):
    tensors = load_file(folder / "profile.safetensors") | changes
    kept = {name: array for name, array in tensors.items() if array is not None}
    save_file(kept, folder / "profile.safetensors")


@pytest.mark.parametrize("mode", ["klt", "codebook"])
@pytest.mark.parametrize(
    "changes",
    [
        {"weight": None},
        {"weight_inverse": None},
        {"weight": np.zeros((CHANNELS, CHANNELS - 1), np.float32)},
        {"weight": np.eye(CHANNELS)},
        {"weight_inverse": np.full((CHANNELS, CHANNELS), np.nan, np.float32)},
        {"weight": np.full((CHANNELS, CHANNELS), 3e38, np.float32)},
        {"weight": np.zeros((CHANNELS, CHANNELS), np.float32)},
    ],
)
def test_a_damaged_weight_is_refused(mode, changes, task_profiles, tmp_path):
    task_profiles[mode].save_pretrained(tmp_path)
    edited(tmp_path, **changes)
    with pytest.raises(ProfileError, match="holds a damaged profile"):
        Profile.from_pretrained(tmp_path)


def test_the_digest_covers_the_weight(task_profile, tmp_path):
    task_profile.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "profile.safetensors")
    edited(tmp_path, weight=tensors["weight"] * np.float32(1.0001))
    with pytest.raises(ProfileError, match="has the digest"):
        Profile.from_pretrained(tmp_path)


@pytest.mark.filterwarnings("ignore::featurewire_codec.CalibrationWarning")
def test_an_identity_has_no_weight(tmp_path):
    profile = Profile.calibrate([np.ones((2, 3), np.float32)])
    assert profile.transform.mode == "identity"
    profile.save_pretrained(tmp_path)
    eye = np.eye(3, dtype=np.float32)
    edited(tmp_path, weight=eye, weight_inverse=eye)
    with pytest.raises(ProfileError, match="holds a damaged profile"):
        Profile.from_pretrained(tmp_path)
