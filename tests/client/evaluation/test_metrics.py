"""Figures against values worked out by hand."""

import math

import numpy as np
import pytest
from featurewire_client.evaluation import metrics


def test_choices_by_their_likelihood_and_by_that_of_a_character():
    metric = metrics.ChoiceMetric()
    metric.add(np.array([-2.0, -6.0]), (0, [1, 6]))  # acc right; -2 and -1 a character: norm wrong
    metric.add(np.array([-3.0, -4.0]), (1, [2, 4]))  # acc wrong; -1.5 and -1: norm right
    metric.add(np.array([-3.0, -9.0]), (1, [1, 2]))  # both wrong
    metric.add(np.array([-1.0, -9.0]), (0, [1, 9]))  # equal a character: the first
    assert metric.values() == {"acc": 2 / 4, "acc_norm": 2 / 4}


def test_top_five_holds_the_five_likeliest_only():
    metric = metrics.ClassMetric()
    scores = np.array([0.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0], np.float32)
    for label in (1, 5, 6, 0):
        metric.add(scores, label)
    assert metric.values() == {"top1": 1 / 4, "top5": 2 / 4}


def test_fewer_than_five_classes_are_all_among_the_five():
    metric = metrics.ClassMetric()
    metric.add(np.array([1.0, 2.0], np.float32), 0)
    assert metric.values() == {"top1": 0.0, "top5": 1.0}


def test_iou_is_over_the_pixels_of_all_images_and_the_classes_that_are_present():
    metric = metrics.SegmentationMetric()
    metric.add(np.array([[0, 1, 1], [1, 1, 0]]), np.array([[0, 0, 1], [1, 1, 255]]))
    assert metric.values() == {
        "miou": pytest.approx((1 / 2 + 3 / 4) / 2),
        "pixel_acc": pytest.approx(4 / 5),
    }
    metric.add(np.array([[4, 0]]), np.array([[0, 0]]))
    # class 0: 2 of 4; class 1: 3 of 4; class 4: 0 of 1; classes 2 and 3 are nowhere
    assert metric.values()["miou"] == pytest.approx((2 / 4 + 3 / 4 + 0) / 3)


def test_a_picture_without_a_known_pixel_changes_nothing():
    metric = metrics.SegmentationMetric()
    metric.add(np.array([[3]]), np.array([[255]]))
    assert math.isnan(metric.values()["miou"])
    assert math.isnan(metric.values()["pixel_acc"])


def test_depth_is_over_the_pixels_whose_distance_is_known():
    metric = metrics.DepthMetric()
    metric.add(np.array([[1.0, 3.0]]), np.array([[1.0, 2.0]]))
    metric.add(np.array([[4.0, 9.0, 9.0]]), np.array([[4.0, 0.0, np.nan]]))
    assert metric.values() == {
        "rmse": pytest.approx(math.sqrt(1 / 3)),
        "delta1": pytest.approx(2 / 3),
    }


def test_delta1_is_below_a_factor_of_a_quarter_more_either_way():
    metric = metrics.DepthMetric()
    metric.add(np.array([[1.24, 1.25, 1.0, 1.0, -1.0]]), np.array([[1.0, 1.0, 1.24, 1.26, 1.0]]))
    assert metric.values()["delta1"] == pytest.approx(2 / 5)


def test_psnr_is_of_the_error_over_all_images():
    metric = metrics.ImageMetric()
    image = np.full((2, 2, 3), 100, np.uint8)
    metric.add(image, image)
    assert metric.values() == {"psnr_db": math.inf, "same": 1.0}
    metric.add(image + 10, image)
    assert metric.values() == {
        "psnr_db": pytest.approx(10 * math.log10(255**2 / 50)),
        "same": 0.5,
    }


def test_embeddings_are_compared_by_angle_and_by_what_is_nearest():
    metric = metrics.EmbeddingMetric()
    true = np.array([[1, 0, 0], [1, 0.1, 0], [0, 0, 1], [0, 0.2, 1]], np.float32)
    ours = true.copy()
    ours[0] = 2 * true[0]
    ours[1] = [0, 0.1, 1]  # was nearest to 0, and is to the last; 0 has no other near it
    for pair in zip(ours, true, strict=True):
        metric.add(*pair)
    values = metric.values()
    cosine = 0.01 / 1.01
    assert values["least"] == pytest.approx(cosine)
    assert values["cosine"] == pytest.approx((3 + cosine) / 4)
    assert values["first_hit"] < 1


def test_without_a_sample_there_are_no_figures():
    kinds = (metrics.ChoiceMetric, metrics.ClassMetric, metrics.DepthMetric, metrics.ImageMetric)
    for kind in (*kinds, metrics.SegmentationMetric, metrics.EmbeddingMetric):
        assert all(math.isnan(value) for value in kind().values().values()), kind
