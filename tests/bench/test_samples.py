"""The bundled models' held-out inputs are there, whole, and of the shapes the tasks need."""

from pathlib import Path

import numpy as np
import pytest
from featurewire_bench import samples
from featurewire_bench.errors import SampleError


def test_texts_are_not_empty() -> None:
    assert len(samples.read_text("tiny-llama3", "prompt.txt")) > 10
    assert len(samples.read_text("tiny-llama3", "passage.txt")) > 500


def test_scenes_come_with_their_truth() -> None:
    labelled = samples.labelled_scenes("tiny-dinov2")
    masked = samples.masked_scenes("tiny-dinov2")
    measured = samples.measured_scenes("tiny-dinov2")
    assert min(len(labelled), len(masked), len(measured)) >= 10
    for scene in [*labelled, *masked, *measured]:
        assert scene.image.dtype == np.uint8
        assert scene.image.shape[2] == 3
    assert {scene.label for scene in labelled} <= set(range(10))
    for scene in masked:
        assert scene.mask is not None
        assert scene.mask.shape == scene.image.shape[:2]
        assert scene.mask.max() <= 10
    for scene in measured:
        assert scene.depth is not None
        assert scene.depth.shape == scene.image.shape[:2]
        assert 0 < scene.depth.min() <= scene.depth.max() < 6


def test_prompts_name_the_digit_to_be_seen() -> None:
    prompts = samples.image_prompts("tiny-sd3")
    assert len(prompts) >= 4
    assert all(0 <= prompt.digit <= 9 and prompt.steps > 0 for prompt in prompts)


def test_a_missing_sample_is_named(tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=r"labels\.json is missing"):
        samples.read_json(tmp_path / "labels.json")
    with pytest.raises(SampleError, match=r"nothing\.txt is missing"):
        samples.read_text("tiny-llama3", "nothing.txt")
