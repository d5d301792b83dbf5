"""What a list of outputs is worth: a task's outputs and its truth in, one metric out."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from featurewire_bench import metrics

Score = Callable[[Sequence[Any]], float]


def class_map(output: Any, size: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """The likeliest class of each pixel, [height, width], from one image's `.logits`."""
    scores = torch.nn.functional.interpolate(
        output.logits.float(), size=size, mode="bilinear", align_corners=False
    )
    labels: npt.NDArray[np.int64] = scores[0].argmax(0).numpy()
    return labels


def accuracy(labels: Sequence[int]) -> Score:
    """Percentage of images whose largest `.logits` is at their label."""

    def score(outputs: Sequence[Any]) -> float:
        logits = torch.cat([output.logits for output in outputs])
        return 100 * metrics.accuracy(logits, labels)

    return score


def mean_iou(masks: Sequence[npt.NDArray[np.uint8]]) -> Score:
    """Mean IoU in percent, over the pixels of all images together."""

    def score(outputs: Sequence[Any]) -> float:
        maps = [class_map(o, mask.shape) for o, mask in zip(outputs, masks, strict=True)]
        return 100 * metrics.mean_iou(np.stack(maps), np.stack(masks))

    return score


def depth_rmse(depths: Sequence[npt.NDArray[np.float32]]) -> Score:
    """Root mean square error of `.predicted_depth`, over the pixels of all images together."""

    def score(outputs: Sequence[Any]) -> float:
        predicted = torch.cat([output.predicted_depth for output in outputs])
        return metrics.depth_rmse(predicted, np.stack(depths))

    return score


def mean_loss(outputs: Sequence[Any]) -> float:
    """Mean of the `.loss` of each output."""
    return float(np.mean([float(output.loss) for output in outputs]))


def recognised(judge: Callable[[torch.Tensor], torch.Tensor], digits: Sequence[int]) -> Score:
    """Mean probability, in percent, that the judge gives to the digit each prompt asked for.

    `judge` takes uint8 images [n, height, width, 3] and gives logits [n, 10].
    """

    def score(outputs: Sequence[Any]) -> float:
        with torch.no_grad():
            chances = judge(torch.cat([output.images for output in outputs])).softmax(1)
        return 100 * float(chances[range(len(digits)), list(digits)].mean())

    return score
