"""tiny-dinov2 and tiny-sd3: plain libraries load them and they work on digits never trained on."""

import json
from pathlib import Path

import featurewire_models
import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from featurewire_models.judge import Judge
from PIL import Image
from transformers import AutoImageProcessor, Dinov2ForImageClassification

pytest.importorskip("sklearn", reason="the digits come with scikit-learn (extra: train)")

from featurewire_models.training.digits import (
    BACKGROUND_DEPTH,
    FOCAL_LENGTH,
    NAMES,
    load_digits,
    scene,
)
from featurewire_models.training.vision_report import measure

BUNDLED = Path(featurewire_models.__file__).parent / "bundled"
DINOV2 = BUNDLED / "tiny-dinov2"
SD3 = BUNDLED / "tiny-sd3"


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_training_and_held_out_digits_share_no_image():
    train, held_out = load_digits()
    assert (len(train.labels), len(held_out.labels)) == (1497, 300)
    assert set(held_out.labels) == set(range(10))
    ours = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in ours for image in held_out.images)


@pytest.mark.parametrize("kind", ["single", "crowded", "captioned"])
def test_composing_is_deterministic(kind):
    digits, _ = load_digits()
    first, second = (scene(np.random.default_rng(5), digits, kind) for _ in range(2))
    assert first.caption == second.caption
    assert first.label == second.label
    for name in ("image", "mask", "depth"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_scene_is_consistent_and_its_label_is_the_nearest_digit():
    rng, (digits, _) = np.random.default_rng(6), load_digits()
    for _ in range(20):
        item = scene(rng, digits, "crowded")
        assert item.image.shape == (64, 64, 3)
        np.testing.assert_array_equal(item.mask == 0, item.depth == np.float32(BACKGROUND_DEPTH))
        nearest = item.depth == item.depth.min()
        assert set(item.mask[nearest]) == {item.label + 1}
        assert item.depth.min() >= FOCAL_LENGTH / 45.0


def test_dinov2_models_reach_their_figures_on_fresh_held_out_scenes():
    _, held_out = load_digits()
    figures = measure(DINOV2, held_out, 100)
    assert figures["top1"] >= 0.94
    assert figures["miou"] >= 0.48
    assert figures["depth_rmse"] < 0.6 * figures["depth_rmse_of_mean"]
    assert figures["depth_delta1"] > figures["depth_delta1_of_background"] + 0.02


def test_the_plain_image_processor_and_labels_recognise_the_samples():
    folder = DINOV2 / "samples" / "classification"
    truth = json.loads((folder / "labels.json").read_text())
    model = Dinov2ForImageClassification.from_pretrained(DINOV2)
    processor = AutoImageProcessor.from_pretrained(DINOV2)
    images = [Image.open(folder / name) for name in truth]
    with torch.no_grad():
        scores = model(**processor(images, return_tensors="pt")).logits
    found = [model.config.id2label[index] for index in scores.argmax(1).tolist()]
    right = [one == other for one, other in zip(found, truth.values(), strict=True)]
    assert set(found) <= set(NAMES)
    assert np.mean(right) >= 0.9


def test_sd3_draws_the_digit_that_was_asked_for():
    pipeline = StableDiffusion3Pipeline.from_pretrained(SD3, text_encoder_3=None, tokenizer_3=None)
    pipeline.set_progress_bar_config(disable=True)
    judge = Judge.load(SD3 / "samples" / "judge.safetensors")
    sheet = json.loads((SD3 / "samples" / "prompts.json").read_text())
    chosen = sheet["prompts"][:8]
    images = pipeline(
        [item["prompt"] for item in chosen],
        generator=[torch.Generator().manual_seed(item["seed"]) for item in chosen],
        max_sequence_length=16,
        output_type="np",
        **sheet["settings"],
    ).images
    found = judge.digits(torch.from_numpy((images * 255).round().astype(np.uint8))).tolist()
    assert sum(one == item["digit"] for one, item in zip(found, chosen, strict=True)) >= 6


def test_the_judge_recognises_held_out_digits():
    judge = Judge.load(SD3 / "samples" / "judge.safetensors")
    rng, (_, held_out) = np.random.default_rng(8), load_digits()
    scenes = [scene(rng, held_out, "captioned") for _ in range(200)]
    found = judge.digits(torch.from_numpy(np.stack([item.image for item in scenes])))
    right = np.mean([one == item.label for one, item in zip(found.tolist(), scenes, strict=True)])
    assert right >= 0.93
