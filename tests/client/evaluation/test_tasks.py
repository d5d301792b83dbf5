"""What is run for a record."""

import numpy as np
import pytest
import torch
from featurewire_client.evaluation import images
from featurewire_client.evaluation.prompts import Prompt
from featurewire_client.evaluation.questions import Question
from featurewire_client.evaluation.tasks import Settings, make_task
from featurewire_models import InputError, Outputs, load_processor
from PIL import Image


def task_of(model: str, task: str, settings: Settings | None = None):
    return make_task(task, load_processor(model, task), settings or Settings())[1]


def test_an_image_is_of_its_prompts_own_seed_and_negative_and_of_the_settings():
    task = task_of("tiny-sd3", "text-to-image", Settings(steps=7, guidance=2.5))
    (inputs,) = task.sample(Prompt("a", "a red nine", "a white one", seed=12)).requests
    (other,) = task.sample(Prompt("a", "a white one")).requests
    assert inputs["seed"].tolist() == [12]
    assert int(inputs["num_inference_steps"]) == 7
    assert float(inputs["guidance_scale"]) == 2.5
    assert torch.equal(inputs["negative_input_ids"], other["input_ids"])
    assert not torch.equal(inputs["negative_input_ids"], inputs["input_ids"])


def test_a_choice_is_scored_by_its_own_tokens_alone():
    task = task_of("tiny-llama3", "generation")
    sample = task.sample(Question("q", "What is it?", ("yes it", "no"), 1))
    prompt = task.processor.inputs("Question: What is it?\nAnswer:")["input_ids"][0].tolist()
    for inputs, choice in zip(sample.requests, (" yes it", " no"), strict=True):
        ids, labels = inputs["input_ids"][0].tolist(), inputs["labels"][0].tolist()
        scored = [token for token in labels if token != -100]
        assert ids == prompt + scored
        assert task.processor.decode(scored) == choice
    assert sample.truth == (1, [6, 2])


def test_a_log_likelihood_is_the_mean_loss_of_all_tokens_together():
    sample = task_of("tiny-llama3", "generation").sample(Question("q", "?", ("yes it", "no"), 0))
    counts = [int((each["labels"] != -100).sum()) for each in sample.requests]
    outputs = [Outputs(loss=torch.tensor(0.5)), Outputs(loss=torch.tensor(2.0))]
    assert sample.answer(outputs).tolist() == [-0.5 * counts[0], -2.0 * counts[1]]


@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_a_map_is_brought_to_the_size_of_its_truth(task, tmp_path):
    pair = images.Paired("a", tmp_path / "a.png", tmp_path / "b.png")
    Image.new("RGB", (96, 32)).save(pair.image)
    kind = np.uint8 if task == "segmentation" else np.uint16
    Image.fromarray(np.ones((32, 96), kind)).save(pair.truth)
    evaluated = task_of("tiny-dinov2", task)
    sample = evaluated.sample(pair)
    output = Outputs(logits=torch.zeros(1, 11, 16, 16), predicted_depth=torch.zeros(1, 64, 64))
    assert sample.answer([output]).shape == sample.truth.shape == (32, 96)


def test_masks_are_reduced_where_the_models_processor_says_so(tmp_path):
    pair = images.Paired("a", tmp_path / "a.png", tmp_path / "b.png")
    Image.new("RGB", (3, 1)).save(pair.image)
    Image.fromarray(np.array([[0, 1, 255]], np.uint8)).save(pair.truth)
    evaluated = task_of("tiny-dinov2", "segmentation")
    assert evaluated.sample(pair).truth.tolist() == [[0, 1, 255]]
    evaluated.processor.processor.do_reduce_labels = True
    assert evaluated.sample(pair).truth.tolist() == [[255, 0, 255]]


def test_a_task_without_a_metric_names_those_that_have_one():
    with pytest.raises(InputError, match=r"tokens has no metric; reasoning, .* embedding have one"):
        make_task("tokens", None, Settings())
