"""The commands: what they write and print, and one sentence with exit 2 on bad input."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from featurewire_codec import one_sided_training, train_command
from featurewire_codec.cli import main
from featurewire_codec.one_sided_tables import load_one_sided
from featurewire_codec.universality import Universality
from safetensors.torch import save_file
from synthetic_features import make_grid, make_one_sided, make_tokens


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["featurewire-codec", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return call


def test_a_profile_is_calibrated_and_used_from_end_to_end(run):
    np.save("train.npy", np.stack([make_tokens(seed, 64) for seed in range(10)]))
    np.save("one.npy", make_tokens(99, 50))
    code, out, _ = run("calibrate", "train.npy", "--out", "profile", "--json")
    assert code == 0
    assert json.loads(out)["tokens"] == 640
    assert run("encode", "one.npy", "--out", "x.fw", "--profile", "profile")[0] == 0
    code, out, _ = run("inspect", "x.fw", "--json")
    assert json.loads(out)["chunks"][0]["tokens"] == 50
    assert json.loads(out)["effort"] == "fast"
    assert run("decode", "x.fw", "--out", "y.safetensors", "--profile", "profile")[0] == 0
    code, out, _ = run("evaluate", "one.npy", "--profile", "profile", "--snr-db", "10,20", "--json")
    assert [result["asked_db"] for result in json.loads(out)] == [10.0, 20.0]


def test_grids_and_bfloat16_tensors_are_read(run):
    latents = np.stack([make_grid(seed, 8, 8) for seed in range(6)]).reshape(6, 8, 8, 6)
    save_file({"a": torch.from_numpy(latents).bfloat16(), "b": torch.ones(2, 6)}, "f.safetensors")
    np.save("latents.npy", latents)
    assert run("calibrate", "latents.npy", "--out", "p")[0] == 0
    assert "6 channels" in run("calibrate", "latents.npy", "--out", "p")[1]
    np.save("one.npy", latents[0].reshape(64, 6))
    assert run("encode", "one.npy", "--out", "x.fw", "--profile", "p", "--grid", "8x8")[0] == 0
    code, out, _ = run("encode", "f.safetensors", "--name", "b", "--out", "y.fw")
    assert (code, out.startswith("y.fw: ")) == (0, True)


def test_train_writes_tables(run):
    np.save("tokens.npy", np.stack([make_tokens(seed, 128) for seed in range(16)]))
    code, _, err = run("train", "tokens.npy", "--out", "tables.safetensors")
    assert (code, "weighted coefficients" in err) == (0, True)


def test_train_writes_one_sided_tables_of_rectified_features(run, monkeypatch):
    monkeypatch.setattr(one_sided_training, "SNRS_DB", (8, 15, 22, 38))
    maps = np.stack([make_one_sided(seed, 20, 16) for seed in range(12)])
    np.save("maps.npy", maps.reshape(12, 20, 16, -1))
    code, _, err = run("train", "maps.npy", "--one-sided", "--out", "tables.safetensors")
    assert (code, "indices" in err) == (0, True)
    load_one_sided(Path("tables.safetensors"))
    np.save("signed.npy", maps - 1)
    code, _, err = run("train", "signed.npy", "--one-sided", "--out", "none.safetensors")
    assert (code, "values below zero" in err) == (2, True)


def test_train_measures_each_source_with_the_others_tables(run):
    np.save("text.1.npy", np.stack([make_tokens(seed, 128) for seed in range(16)]))
    np.save("grid.npy", np.stack([make_grid(s, 16, 16) for s in range(16)]).reshape(16, 16, 16, 6))
    code, out, _ = run("train", "text.1.npy", "grid.npy", "--leave-one-out", "--json")
    assert code == 0
    for row in json.loads(out):
        assert 0.9 < row["ratio"] < 1.3
        assert 0.9 < row["trellis_ratio"] < 1.3
        assert row["trellis_ratio"] == row["trellis_others"] / row["trellis_own"]
    np.save("text.2.npy", np.load("text.1.npy"))
    code, _, err = run("train", "text.1.npy", "text.2.npy", "--leave-one-out")
    assert (code, "of one model" in err) == (2, True)


def test_train_measures_one_sided_sources_too(run, monkeypatch):
    monkeypatch.setattr(one_sided_training, "SNRS_DB", (8, 15, 22, 38))
    for name, channels, scale in ("thin", 8, 1.0), ("wide", 16, 30.0):
        maps = np.stack([make_one_sided(seed, 20, 16, channels) for seed in range(24)])
        np.save(f"{name}.npy", scale * maps.reshape(24, 20, 16, channels))
    files = "thin.npy", "wide.npy"
    code, out, _ = run("train", *files, "--one-sided", "--leave-one-out", "--json")
    assert code == 0
    assert [row["source"] for row in json.loads(out)] == list(files)
    assert all(1 < row["ratio"] < 1.1 for row in json.loads(out))
    assert "trellis_ratio" not in out
    code, _, err = run("train", "thin.npy", "--one-sided", "--leave-one-out")
    assert (code, "two or more" in err) == (2, True)


@pytest.mark.parametrize("trellis", [(), (2.2, 2.0)])
def test_how_universal_tables_are_is_a_table_of_what_was_measured(capsys, monkeypatch, trellis):
    monkeypatch.setenv("COLUMNS", "160")
    train_command.show([Universality("folder/maps.npy", 1.1, 1.0, *trellis)], as_json=False)
    out, _ = capsys.readouterr()
    assert "own ideal" in out
    assert "+10.0%" in out
    assert "maps.npy" in out
    assert ("trellis" in out) == bool(trellis)


@pytest.mark.parametrize(
    "command", ["calibrate", "encode", "decode", "inspect", "evaluate", "train"]
)
def test_every_command_shows_an_example(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"Example: featurewire-codec {command} " in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["encode", "absent.npy", "--out", "x.fw"], "cannot be read"),
        (["encode", "one.txt", "--out", "x.fw"], "ends in neither"),
        (["encode", "pickled.npy", "--out", "x.fw"], "cannot be read"),
        (["encode", "ints.npy", "--out", "x.fw"], "float type"),
        (["encode", "many.npy", "--out", "x.fw"], "holds 2 features"),
        (["encode", "one.npy", "--out", "x.fw", "--snr-db", "900"], "snr_db is 900"),
        (["encode", "one.npy", "--out", "x.fw", "--snr-db", "loud"], "--snr-db"),
        (["encode", "one.npy", "--out", "x.fw", "--grid", "9"], "not rows x columns"),
        (["encode", "one.npy", "--out", "x.fw", "--profile", "nowhere"], "holds no profile"),
        (["encode", "one.npy", "--out", "x.fw", "--name", "a"], "no named tensors"),
        (["encode", "one.npy", "--out", "no/such/folder.fw"], "No such file"),
        (["decode", "one.npy", "--out", "y.npy"], "a bitstream begins with"),
        (["decode", "absent.fw", "--out", "y.npy"], "No such file"),
        (["inspect", "one.npy"], "a bitstream begins with"),
        (["evaluate", "one.npy", "--snr-db", "a,b"], "not numbers"),
        (["train", "one.npy", "--one-sided"], "nothing to do"),
        (["train", "above.npy", "--one-sided", "--out", "x"], "holds one sample"),
        (["conjure"], "No such command"),
        (["encode"], "Missing"),
    ],
)
def test_bad_input_exits_2_with_one_sentence(run, arguments, words):
    np.save("one.npy", make_tokens(1, 5))
    np.save("above.npy", np.ones((1, 3, 2, 4), np.float32))
    np.save("many.npy", np.ones((2, 3, 4), np.float32))
    np.save("ints.npy", np.ones((3, 4), np.int64))
    np.save("pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    code, _, err = run(*arguments)
    assert code == 2
    assert words in err
    assert err.startswith("featurewire-codec: ")
    assert len(err.splitlines()) == 1


def test_startup_imports_no_torch():
    import subprocess

    script = "import sys, featurewire_codec.cli; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
