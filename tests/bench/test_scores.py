"""Scores of outputs, against values worked out by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from featurewire_bench import scores


def test_accuracy_is_in_percent() -> None:
    outputs = [SimpleNamespace(logits=torch.tensor([[0.0, 1.0]])) for _ in range(4)]
    assert scores.accuracy([1, 1, 1, 0])(outputs) == 75.0


def test_class_scores_are_enlarged_to_the_mask() -> None:
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 1, :, 1] = 5.0  # the right half is class 1
    logits[0, 0, :, 0] = 5.0
    mask = np.zeros((4, 4), np.uint8)
    mask[:, 2:] = 1
    assert scores.mean_iou([mask])([SimpleNamespace(logits=logits)]) == 100.0


def test_depth_error_is_over_all_pixels_together() -> None:
    depths = [np.full((2, 2), 2.0, np.float32), np.full((2, 2), 4.0, np.float32)]
    outputs = [
        SimpleNamespace(predicted_depth=torch.full((1, 2, 2), 2.0)),
        SimpleNamespace(predicted_depth=torch.full((1, 2, 2), 3.0)),
    ]
    assert scores.depth_rmse(depths)(outputs) == pytest.approx(math.sqrt(0.5))


def test_a_judge_is_asked_how_sure_it_is_of_the_digit() -> None:
    def judge(images: torch.Tensor) -> torch.Tensor:
        return torch.log(torch.tensor([[0.2, 0.8]])).repeat(len(images), 1)

    outputs = [SimpleNamespace(images=torch.zeros(1, 4, 4, 3, dtype=torch.uint8))] * 2
    assert scores.recognised(judge, [1, 0])(outputs) == pytest.approx(50.0)
