"""What `featurewire calibrate` says of a profile, on inputs that it was not fitted on."""

import json

import numpy as np
import pytest
import torch
from featurewire.wire.profiles import ProfileSet
from featurewire_bench.samples import samples_folder
from featurewire_client import calibration
from featurewire_client.cli import app
from featurewire_client.evaluation.agreement import make_agreement
from featurewire_client.profile_quality import leave_out, measure
from featurewire_client.task_metric import TaskMetric
from featurewire_codec import Profile
from featurewire_models import InputError, describe, load_head, load_processor, load_tail
from typer.testing import CliRunner

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore::featurewire_codec.CalibrationWarning")


def texts(count: int) -> list[str]:
    """Pieces of held-out prose."""
    words = (samples_folder("tiny-llama3") / "passage.txt").read_text().split()
    return [" ".join(words[15 * place : 15 * place + 15]) for place in range(count)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for number, text in enumerate(texts(12)):
        (folder / f"{number:02}.txt").write_text(text)
    return folder


def command(data, out, *options: object):
    """The command over the texts, at a split point of tiny-llama3."""
    arguments = "calibrate", "tiny-llama3", "--split", "layers.1", "--data", data, "--out", out
    return CliRunner().invoke(app, [str(each) for each in (*arguments, *options)])


@pytest.fixture(scope="module")
def calibrated(data, tmp_path_factory):
    """What the command printed as JSON, its profile's folder, and what it was fitted on."""
    out, fitted, minded = tmp_path_factory.mktemp("profile"), [], []
    with pytest.MonkeyPatch.context() as patch:
        fit, add = Profile.calibrate.__func__, TaskMetric.add

        def fit_seen(cls, samples, *args, **kwargs):
            fitted.extend(samples)
            return fit(cls, samples, *args, **kwargs)

        def add_seen(self, features):
            minded.append(features.tensors["hidden"][0])
            add(self, features)

        patch.setattr(Profile, "calibrate", classmethod(fit_seen))
        patch.setattr(TaskMetric, "add", add_seen)
        options = ("--snr-db", 5, "--snr-db", 15, "--snr-db", 25, "--task-aware", "--json")
        run = command(data, out, *options)
    assert run.exit_code == 0, run.output
    return json.loads(run.stdout), out, fitted, minded


def test_the_task_is_the_nearer_the_higher_the_quality(calibrated):
    found = calibrated[0]["left_out"]
    rows = found["rows"]
    assert (found["inputs"], found["left_out"]) == (12, 2)
    assert [row["snr_db"] for row in rows] == [5, 15, 25]
    divergence = [row["metrics"]["kl"] for row in rows]
    assert divergence == sorted(divergence, reverse=True)
    assert divergence[0] > 10 * divergence[-1] > 0
    assert rows[-1]["metrics"]["agree"] > rows[0]["metrics"]["agree"]


def test_a_profile_is_cheaper_than_none_at_the_same_error(calibrated):
    rows = calibrated[0]["left_out"]["rows"]
    for row in rows:
        assert 0 < row["bpfp"] < row["bpfp_without_profile"]
        assert row["reached_snr_db"] == pytest.approx(row["snr_db"], abs=2)
        assert row["reached_snr_db_without_profile"] == pytest.approx(row["snr_db"], abs=1)
    assert rows[0]["bpfp"] < rows[1]["bpfp"] < rows[2]["bpfp"]


def test_what_is_measured_on_was_not_fitted_on(calibrated):
    head, processor = load_head("tiny-llama3", "layers.1"), load_processor("tiny-llama3")
    with torch.inference_mode():
        features = [head(processor.inputs(text)).tensors["hidden"][0] for text in texts(12)]
    kept = [one for place, one in enumerate(features) if place not in (4, 9)]
    for seen in calibrated[2:]:
        assert len(seen) == 10
        assert all(torch.equal(*pair) for pair in zip(seen, kept, strict=True))


def test_the_figures_are_of_the_saved_profile_and_in_its_report(calibrated):
    found, out, *_ = calibrated
    saved = ProfileSet.from_pretrained(out)
    assert saved.digest == found["digest"]
    assert saved.profiles["hidden"].report["left_out"] == found["left_out"]


def test_no_tail_reads_none_and_leaves_the_task_out(data, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "load_tail", lambda *_: pytest.fail("the tail was read"))
    run = command(data, tmp_path, "--no-tail", "--snr-db", 15)
    assert run.exit_code == 0, run.output
    assert "on 2 of 12 inputs" in run.stdout
    assert "times the bits" in run.stdout
    assert "the tail's outputs" not in run.stdout
    (row,) = ProfileSet.from_pretrained(tmp_path).profiles["hidden"].report["left_out"]["rows"]
    assert row["metrics"] == {}
    run = command(data, tmp_path, "--no-tail", "--task-aware")
    assert run.exit_code == 2
    assert "--task-aware runs the tail: no --no-tail" in run.output


def test_few_inputs_are_all_fitted_on_and_nothing_is_said_of_others(data, tmp_path):
    sentence = "9 inputs are too few to leave any out, so nothing tells how good the profile is"
    run = command(data, tmp_path, "--no-tail", "--limit", 9)
    assert run.exit_code == 0, run.output
    assert sentence in run.stdout
    assert "left out\n" not in run.stdout
    report = ProfileSet.from_pretrained(tmp_path).profiles["hidden"].report
    assert report["samples"] == 9
    assert report["left_out"]["rows"] == []
    assert sentence in report["left_out"]["because"]


def test_short_texts_are_learned_from_and_empty_ones_refused(tmp_path):
    folder, out = tmp_path / "texts", tmp_path / "out"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"Hello number {number}")
    run = command(folder, out, "--no-tail")
    assert run.exit_code == 0, run.output
    assert ProfileSet.from_pretrained(out).profiles["hidden"].report["samples"] == 6
    for file in folder.iterdir():
        file.write_text(" \n")
    run = command(folder, tmp_path / "none", "--no-tail")
    assert isinstance(run.exception, InputError)
    assert "holds no text to learn from" in str(run.exception)


def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_learned(
    data, tmp_path, monkeypatch
):
    monkeypatch.setattr(calibration, "calibrate", None)
    (tmp_path / "file").write_text("")
    run = command(data, tmp_path / "file" / "out")
    assert run.exit_code == 2
    assert "cannot be made" in run.output


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")]
)
def test_without_memory_for_the_tail_one_sentence_says_what_to_do(
    data, tmp_path, monkeypatch, error
):
    def load_tail(*_):
        raise error

    monkeypatch.setattr(calibration, "load_tail", load_tail)
    run = command(data, tmp_path / "profile")
    assert "no memory for the tail too. With --no-tail" in str(run.exception)
    assert not any((tmp_path / "profile").iterdir())


@pytest.mark.parametrize(
    ("count", "expected"), [(0, 0), (9, 0), (10, 2), (24, 4), (160, 32), (161, 26), (512, 32)]
)
def test_every_fifth_input_is_left_out_or_32_evenly(count, expected):
    fitted, left_out = leave_out(range(count))
    assert len(left_out) == expected
    assert sorted(fitted + left_out) == list(range(count))
    assert fitted == sorted(fitted)
    if left_out:
        assert len(set(np.diff(left_out))) == 1
        assert left_out[0] + (count - 1 - left_out[-1]) < 2 * (left_out[1] - left_out[0])


def test_each_tensor_has_figures_of_its_own_and_the_task_those_of_all_together():
    split, task = "layers.3", "depth"
    info, processor = describe("tiny-dinov2"), load_processor("tiny-dinov2", task)
    head, tail = load_head("tiny-dinov2", split, task), load_tail("tiny-dinov2", split, task)
    images = sorted((samples_folder("tiny-dinov2") / "classification").glob("*.png"))[:2]
    with torch.inference_mode():
        features = [head(processor.inputs(path)) for path in images]
    learned = ProfileSet.from_pretrained(info.profile_folder(split, task))
    agreement, begun = make_agreement(task, processor), []
    rows = measure(
        learned, features, (5.0, 25.0), tail, agreement, lambda *step: begun.append(step)
    )
    assert begun == [("inputs left out", 2)] * 2
    low, high = (row.as_dict() for row in rows)
    assert low["metrics"]["rmse"] > high["metrics"]["rmse"] > 0
    assert low["metrics"]["delta1"] <= high["metrics"]["delta1"] <= 1
    apart = [rows[0].as_dict([name]) for name in learned.profiles]
    assert len(apart) == 2
    assert low["bpfp"] == pytest.approx(sum(each["bpfp"] for each in apart) / 2)
    assert apart[0]["bpfp"] != apart[1]["bpfp"]
    assert apart[0]["metrics"] == low["metrics"]
