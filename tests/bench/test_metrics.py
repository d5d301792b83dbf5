"""Task metrics against values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from featurewire_bench import metrics


def test_next_token_loss_is_the_cross_entropy_of_the_following_token() -> None:
    logits = torch.log(torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [1.0, 1.0, 1.0]]]))
    ids = torch.tensor([[2, 1, 2]])  # predicted: 1 with 0.25, then 2 with 0.8
    assert metrics.next_token_loss(logits, ids) == pytest.approx(-(math.log(0.25 * 0.8)) / 2)


def test_token_agreement_counts_equal_positions_of_the_longer() -> None:
    assert metrics.token_agreement([1, 2, 3, 4], [1, 2, 9, 4]) == 0.75
    assert metrics.token_agreement([1, 2], [1, 2, 3, 4]) == 0.5
    assert math.isnan(metrics.token_agreement([], []))


def test_accuracy_is_the_share_of_right_arguments_of_the_maximum() -> None:
    logits = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    assert metrics.accuracy(logits, [1, 0, 0, 0]) == 0.75


def test_mean_iou_averages_over_classes_and_ignores_unlabelled_pixels() -> None:
    truth = np.array([[0, 0, 1], [1, 1, 255]])
    predicted = np.array([[0, 1, 1], [1, 1, 0]])
    # class 0: 1 of 2; class 1: 3 of 4
    assert metrics.mean_iou(predicted, truth) == pytest.approx((1 / 2 + 3 / 4) / 2)


def test_a_class_predicted_where_there_is_none_counts_as_zero() -> None:
    assert metrics.mean_iou([0, 0, 2, 0], [0, 0, 0, 0]) == pytest.approx((3 / 4 + 0) / 2)


def test_depth_errors_skip_pixels_without_depth() -> None:
    truth, predicted = [1.0, 2.0, 4.0, 0.0], [1.0, 3.0, 4.0, 9.0]
    assert metrics.depth_rmse(predicted, truth) == pytest.approx(math.sqrt(1 / 3))
    assert metrics.depth_delta1(predicted, truth) == pytest.approx(2 / 3)


def test_psnr_of_a_known_error() -> None:
    image = np.full((2, 2, 3), 100, np.uint8)
    assert metrics.psnr(image + 10, image) == pytest.approx(20 * math.log10(255 / 10))
    assert metrics.psnr(image, image) == math.inf


def test_snr_is_the_variance_about_the_channel_means_over_the_error() -> None:
    feature = torch.tensor([[9.0, -1.0], [11.0, 1.0]])  # means 10 and 0, variance 1
    assert metrics.snr(feature + 0.1, feature) == pytest.approx(20, abs=1e-3)
    assert metrics.snr(feature, feature) == math.inf
