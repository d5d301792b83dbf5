"""Task-aware calibration: gradients through real tails, and profiles that come of them."""

import json

import numpy as np
import pytest
import torch
from featurewire_client.cli import app
from featurewire_client.output_error import OutputError
from featurewire_client.task_metric import TaskMetric
from featurewire_models import Features, TaskError, load_head, load_processor, load_tail
from PIL import Image
from typer.testing import CliRunner

torch.set_num_threads(1)


def features_of(model: str, split: str, task: str, raw: object) -> Features:
    head, processor = load_head(model, split=split, task=task), load_processor(model, task)
    with torch.inference_mode():
        return head(processor.inputs(raw))


def picture(seed: int = 0) -> Image.Image:
    pixels = torch.randint(0, 255, (56, 56, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def metric_of(model: str, split: str, task: str, raw: object, name: str) -> torch.Tensor:
    metric = TaskMetric(load_tail(model, split=split, task=task))
    metric.add(features_of(model, split, task, raw))
    found = metric.metric(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "split", "task", "raw", "name"),
    [
        ("tiny-llama3", "layers.6", "generation", "A sentence of some words.", "hidden"),
        ("tiny-dinov2", "layers.3", "classification", picture(), "hidden"),
        ("tiny-dinov2", "layers.3", "segmentation", picture(), "hidden"),
        ("tiny-dinov2", "layers.3", "depth", picture(), "level_2"),
        ("tiny-sd3", "latents", "text-to-image", "a red circle", "latents"),
    ],
)
def test_a_tail_tells_what_its_task_minds(model, split, task, raw, name):
    metric = metric_of(model, split, task, raw, name)
    values = torch.linalg.eigvalsh(metric)
    assert torch.allclose(metric, metric.T)
    assert values[0] > -1e-6 * values[-1]
    assert values[-1] > 1.5 * values.mean()  # some directions matter more than others


def test_errors_that_the_metric_minds_change_the_output_more():
    tail = load_tail("tiny-llama3", split="layers.6")
    features = features_of("tiny-llama3", "layers.6", "generation", "One thing leads to another.")
    metric = TaskMetric(tail)
    metric.add(features)
    found = metric.metric("hidden")
    assert found is not None
    directions = torch.linalg.eigh(found)[1].float()
    hidden = features.tensors["hidden"].clone()

    def divergence(direction: torch.Tensor) -> float:
        moved = hidden + 0.01 * hidden.std() * direction * len(direction) ** 0.5
        with torch.inference_mode():
            logs = [tail(Features({"hidden": each})).logits.log_softmax(-1) for each in
                    (hidden, moved)]  # fmt: skip
        return float((logs[0].exp() * (logs[0] - logs[1])).sum())

    assert divergence(directions[:, -1]) > 3 * divergence(directions[:, 0])


def test_a_seed_gives_the_same_metric_again():
    arguments = "tiny-llama3", "layers.6", "generation", "The same words.", "hidden"
    assert torch.equal(metric_of(*arguments), metric_of(*arguments))


@pytest.mark.parametrize(
    ("model", "split", "task", "raw", "name"),
    [
        ("tiny-llama3", "layers.6", "generation", "A sentence of some words.", "hidden"),
        ("tiny-dinov2", "layers.3", "depth", picture(), "level_2"),
        ("tiny-sd3", "latents", "text-to-image", "a red circle", "latents"),
    ],
)
def test_larger_errors_cost_the_task_more_and_none_costs_nothing(model, split, task, raw, name):
    error, features = (
        OutputError(load_tail(model, split=split, task=task)),
        features_of(model, split, task, raw),
    )
    error.add(features_of(model, split, task, raw))
    error.add(features)
    exact = features.tensors[name][0].numpy()
    noise = np.random.default_rng(0).normal(size=exact.shape).astype(np.float32) * exact.std()
    costs = [error.measure(name, 1, exact + share * noise) for share in (0, 0.02, 0.2)]
    assert costs[0] == 0
    assert 0 < 10 * costs[1] < costs[2]


def test_a_tensor_that_no_output_depends_on_has_no_metric():
    assert TaskMetric(load_tail("tiny-llama3", split="layers.6")).metric("hidden") is None


def test_a_tail_without_gradients_is_refused():
    metric = TaskMetric(load_tail("tiny-sd3", split="prompt", task="text-to-image"))
    features = features_of("tiny-sd3", "prompt", "text-to-image", "a red circle")
    with pytest.raises(TaskError, match="tiny-sd3 after prompt denoises"):
        metric.add(features)


@pytest.mark.filterwarnings("ignore::featurewire_codec.CalibrationWarning")
def test_the_command_learns_a_task_aware_profile(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(6):
        words = " ".join(f"word {number} of {place * number}" for place in range(60))
        (texts / f"{number}.txt").write_text(words)
    command = (
        f"calibrate tiny-llama3 --split layers.4 --data {texts} --out {tmp_path / 'profile'} "
        "--limit 6 --task-aware --json"
    )
    run = CliRunner().invoke(app, command.split())
    assert run.exit_code == 0, run.output
    report = json.loads(run.stdout)["profiles"]["hidden"]
    assert report["task"]["kept"] == report["kept"].endswith(", task")
    assert "at the same error of the task" in report["task"]["because"]
