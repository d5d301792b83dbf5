"""Training and weights files."""

import csv

import numpy as np
import pytest
import torch
from featurewire_codec import FeatureError, ProfileError
from featurewire_codec.dt_ufc import training, weights
from featurewire_codec.dt_ufc.crops import random_crops, read_sources
from featurewire_codec.dt_ufc.hyperprior import Hyperprior
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from synthetic_features import make_grid

SHIPPED = sorted(weights.FOLDER.rglob("*.safetensors"))  # the hybrid ones, and one a task


@pytest.fixture
def features(tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    grids = [make_grid(seed, 16, 16, channels=16).reshape(16, 16, 16) for seed in range(32)]
    np.save(folder / "latents.npy", np.stack(grids))
    tokens = np.random.default_rng(0).laplace(size=(16, 40, 24)).cumsum(axis=2)
    np.save(folder / "tokens.npy", tokens.astype(np.float16))
    return folder


def test_crops_are_parts_of_the_pictures_and_the_held_out_ones_are_not_among_them(features):
    sources = read_sources([features], crop=64, linear=False)
    assert [source.name.rpartition("/")[2] for source in sources] == ["latents.npy", "tokens.npy"]
    assert all(source.held_out.shape == (6, 64, 64) for source in sources)
    crops = random_crops(sources, 64, 10, np.random.default_rng(0))
    assert crops.shape == (10, 64, 64)
    latents = sources[0]
    assert len(latents.training) == 28
    kept = {picture.tobytes() for picture in latents.training}
    assert not kept & {crop.tobytes() for crop in latents.held_out}


def test_linear_sources_have_even_centres(features):
    for source in read_sources([features], crop=64, linear=True):
        np.testing.assert_allclose(np.diff(source.centres), np.diff(source.centres)[0], rtol=1e-2)


def test_too_few_samples_are_refused(tmp_path):
    np.save(tmp_path / "few.npy", np.zeros((3, 4, 5), np.float32))
    with pytest.raises(FeatureError, match="3 samples"):
        read_sources([tmp_path / "few.npy"], 64, False)


def test_the_loss_falls_and_a_run_goes_on_where_it_ended(features, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "Hyperprior", lambda: Hyperprior(8, 12, 4))
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    out = tmp_path / "out"
    command = [str(features), "--out", str(out), "--lambdas", "0.01", "0.001", "--epochs"]
    training.main([*command, "6", "1"])
    training.main([*command, "8", "1"])
    with (out / training.LOG).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["epoch"]) for line in lines] == [0, 1, 2, 3, 4, 5, 0, 6, 7]
    losses = [float(line["held_out_loss"]) for line in lines if line["lambda_"] == "0.01"]
    assert losses[-1] < 0.95 * losses[0]
    assert "not flat" in capsys.readouterr().out
    loaded = weights.load_networks(out)
    assert loaded.lambdas == (0.001, 0.01)


def test_convolutions_in_bfloat16_train_to_float32s_loss(features, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Hyperprior", lambda: Hyperprior(8, 12, 4))
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    losses = []
    for options in ([], ["--bfloat16"]):
        out = tmp_path / f"out{len(options)}"
        command = [str(features), "--out", str(out), "--lambdas", "0.01", "--epochs", "5"]
        training.main([*command, *options])
        with (out / training.LOG).open(newline="") as file:
            losses.append([float(line["held_out_loss"]) for line in csv.DictReader(file)])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_flatness_is_the_change_over_ten_epochs():
    assert training.flatness([2.0] * 30) == pytest.approx(0.0, abs=1e-12)
    assert training.flatness([100 - n for n in range(10)]) == pytest.approx(9 / 95.5)
    assert training.flatness([1.0] * 9) == float("inf")


def test_the_rate_is_constant_then_falls_and_is_a_tenth_for_the_last_ten_epochs():
    assert training.learning_rate(0, 50) == training.learning_rate(30, 50) == 1e-3
    assert training.learning_rate(35, 50) == pytest.approx(1e-3 / 10**0.5)
    assert training.learning_rate(40, 50) == pytest.approx(1e-4)
    assert training.learning_rate(49.9, 50) == pytest.approx(1e-4)
    assert training.learning_rate(0, 1) == 1e-3  # of few epochs only a third


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_weights_are_float16_tensors_with_their_training_log(path):
    with safe_open(path, framework="pt") as file:  # a format that holds tensors and nothing else
        metadata = file.metadata()
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    with (path.parent / training.LOG).open(newline="") as log:
        epochs = [
            int(line["epoch"])
            for line in csv.DictReader(log)
            if f"{line['network']}-{float(line['lambda_']):g}" == path.stem
        ]
    assert epochs == list(range(int(metadata["epochs"])))


def test_the_shipped_weights_are_small():
    assert SHIPPED
    assert sum(path.stat().st_size for path in SHIPPED) < 10_000_000


def test_the_default_networks_are_the_hybrid_ones_at_three_rates():
    assert weights.load_networks().lambdas == (0.001, 0.005, 0.02)
    for task in ("text", "latents"):
        own = weights.load_networks(weights.FOLDER / task)
        assert own.lambdas == (0.02,)
        assert own.digest != weights.load_networks().digest


def damaged(path, change):
    tensors = load_file(SHIPPED[0])
    change(tensors)
    save_file(tensors, path, {"lambda": "0.1"})


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop("analysis.6.weight"),
        lambda tensors: tensors.pop("density.gates.0"),
        lambda tensors: tensors.update({"analysis.0.bias": torch.zeros(3)}),
        lambda tensors: tensors.update({"analysis.6.weight": torch.zeros(3)}),
        lambda tensors: tensors["analysis.0.bias"].fill_(float("nan")),
    ],
)
def test_damaged_weights_are_refused(tmp_path, change):
    damaged(tmp_path / "network.safetensors", change)
    with pytest.raises(ProfileError):
        weights.load_networks(tmp_path)


def test_what_is_no_weights_file_is_refused(tmp_path):
    with pytest.raises(ProfileError, match="no weights"):
        weights.load_networks(tmp_path)
    (tmp_path / "network.safetensors").write_bytes(SHIPPED[0].read_bytes()[:1000])
    with pytest.raises(ProfileError, match="no weights"):
        weights.load_networks(tmp_path / ".")
