"""Task metrics: predictions and truth (tensors or arrays) in, one float out; NaN for no data."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from featurewire_client.evaluation.metrics import DepthMetric, ImageMetric, SegmentationMetric

Array = npt.ArrayLike | torch.Tensor


def _array(values: Array) -> npt.NDArray[np.float64]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy()
    return np.asarray(values, dtype=np.float64)


def next_token_loss(logits: torch.Tensor, input_ids: torch.Tensor) -> float:
    """Mean cross-entropy, nats a token, of `input_ids` [batch, T] under `logits` [batch, T, V]."""
    predicted = logits[:, :-1].flatten(0, 1).float()
    return float(torch.nn.functional.cross_entropy(predicted, input_ids[:, 1:].flatten()))


def token_agreement(tokens: Sequence[int], reference: Sequence[int]) -> float:
    """Share of the positions of the longer sequence at which both hold the same token, 0 to 1."""
    longest = max(len(tokens), len(reference))
    same = sum(a == b for a, b in zip(tokens, reference, strict=False))
    return same / longest if longest else math.nan


def accuracy(logits: Array, labels: Array) -> float:
    """Share of rows of `logits` [n, classes] whose largest entry is at `labels` [n], 0 to 1."""
    return float(np.mean(_array(logits).argmax(-1) == _array(labels)))


def mean_iou(predicted: Array, truth: Array) -> float:
    """Intersection over union of two integer label maps, mean over the classes in either."""
    metric = SegmentationMetric()
    metric.add(_array(predicted), _array(truth))
    return metric.values()["miou"]


def depth_rmse(predicted: Array, truth: Array) -> float:
    """Root mean square difference, in the unit of depth, over pixels of true depth above 0."""
    return _depth(predicted, truth)["rmse"]


def depth_delta1(predicted: Array, truth: Array) -> float:
    """Share of pixels of true depth above 0 predicted within a factor of 1.25, 0 to 1."""
    return _depth(predicted, truth)["delta1"]


def psnr(image: Array, reference: Array) -> float:
    """Peak signal-to-noise ratio in dB of values from 0 to 255; inf for equal images."""
    metric = ImageMetric()
    metric.add(_array(image), _array(reference))
    return metric.values()["psnr_db"]


def snr(decoded: Array, feature: Array) -> float:
    """Signal-to-noise ratio, dB, of [tokens, channels]: variance about channel means over MSE."""
    ours, true = _array(decoded), _array(feature)
    mse = float(np.mean((ours - true) ** 2))
    variance = float(np.mean((true - true.mean(0)) ** 2))
    return 10 * math.log10(variance / mse) if mse else math.inf


def _depth(predicted: Array, truth: Array) -> dict[str, float]:
    metric = DepthMetric()
    metric.add(_array(predicted), _array(truth))
    return metric.values()
