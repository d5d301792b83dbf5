"""Answers and truth go in sample by sample, a task's figures come out; no sample is kept.

Every metric has `add(answer, truth)` and `values()`, figures by name: shares from 0 to 1, others in
the unit that the name's docstring gives. Before the first sample figures are NaN.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

IGNORED = 255  # the label of pixels that are not scored, as in Pascal VOC
_LEAST_DEPTH = 1e-9  # for the ratio to a prediction of 0 or less
_DELTA = 1.25


class Metric(Protocol):
    """Running sums of one task."""

    def add(self, answer: Any, truth: Any) -> None:
        """Counts one sample."""

    def values(self) -> dict[str, float]:
        """The figures of the samples so far."""


@dataclass
class ChoiceMetric:
    """`acc` and `acc_norm` of questions with choices, as lm-evaluation-harness defines them.

    `acc`: share of questions whose right choice has the greatest log-likelihood; `acc_norm`: the
    same of the log-likelihood over the choice's characters. Of equals the first is taken.
    (`ConfigurableTask.process_results` of lm-evaluation-harness, Gao et al. 2024.)
    """

    right: int = 0
    right_norm: int = 0
    count: int = 0

    def add(self, answer: NDArray[np.float64], truth: tuple[int, list[int]]) -> None:
        """`answer`: log-likelihoods [choices]; `truth`: the right one, and characters of each."""
        right, characters = truth
        self.right += int(answer.argmax()) == right
        self.right_norm += int((answer / np.array(characters)).argmax()) == right
        self.count += 1

    def values(self) -> dict[str, float]:
        return {
            "acc": ratio(self.right, self.count),
            "acc_norm": ratio(self.right_norm, self.count),
        }


@dataclass
class ClassMetric:
    """`top1` and `top5`: shares of images whose class is the likeliest, or among the five.

    As ImageNet's challenge counts them (Russakovsky et al. 2015). A model of fewer than five
    classes has all of them among its five.
    """

    top1: int = 0
    top5: int = 0
    count: int = 0

    def add(self, answer: NDArray[np.float32], truth: int) -> None:
        """`answer`: scores [classes]; `truth`: the class."""
        best = np.argsort(-answer, kind="stable")[:5]
        self.top1 += int(best[0]) == truth
        self.top5 += truth in best
        self.count += 1

    def values(self) -> dict[str, float]:
        return {"top1": ratio(self.top1, self.count), "top5": ratio(self.top5, self.count)}


@dataclass
class SegmentationMetric:
    """`miou` and `pixel_acc` over the pixels of all images together, those labelled 255 left out.

    Intersection over union of each class (Everingham et al. 2010, Pascal VOC), its mean over the
    classes that truth or prediction has anywhere (ADE20K's benchmark, Zhou et al. 2017).
    """

    both: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    either: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    pixels: int = 0

    def add(self, answer: NDArray[Any], truth: NDArray[Any]) -> None:
        """Both of classes [height, width]."""
        scored = truth != IGNORED
        ours, true = (np.asarray(each)[scored].astype(np.int64) for each in (answer, truth))
        size = max(len(self.both), *(int(each.max(initial=-1)) + 1 for each in (ours, true)))
        both = np.bincount(true[ours == true], minlength=size)
        either = np.bincount(ours, minlength=size) + np.bincount(true, minlength=size) - both
        missing = size - len(self.both)
        self.both = np.pad(self.both, (0, missing)) + both
        self.either = np.pad(self.either, (0, missing)) + either
        self.pixels += len(true)

    def values(self) -> dict[str, float]:
        present = self.either > 0
        ious = self.both[present] / self.either[present]
        return {
            "miou": float(ious.mean()) if len(ious) else math.nan,
            "pixel_acc": ratio(int(self.both.sum()), self.pixels),
        }


@dataclass
class DepthMetric:
    """`rmse`, in the unit of depth, and `delta1`, over all pixels whose true depth is above 0.

    `delta1`: share of pixels within a factor of 1.25 (Eigen, Puhrsch and Fergus 2014). Pixels of
    all images count alike.
    """

    squares: float = 0.0
    near: int = 0
    pixels: int = 0

    def add(self, answer: NDArray[Any], truth: NDArray[Any]) -> None:
        """Both of distances [height, width]; 0 or none where the true one is not known."""
        known = np.isfinite(truth) & (truth > 0)
        ours, true = (np.asarray(each, np.float64)[known] for each in (answer, truth))
        self.squares += float(((ours - true) ** 2).sum())
        ours = np.maximum(ours, _LEAST_DEPTH)
        self.near += int((np.maximum(ours / true, true / ours) < _DELTA).sum())
        self.pixels += len(true)

    def values(self) -> dict[str, float]:
        mean = ratio(self.squares, self.pixels)
        return {"rmse": math.sqrt(mean), "delta1": ratio(self.near, self.pixels)}


@dataclass
class ImageMetric:
    """`psnr_db` against the unsplit model's images, of the mean squared error over all of them.

    inf where no pixel differs. `same`: share of images of which none does.
    """

    squares: float = 0.0
    points: int = 0
    same: int = 0
    count: int = 0

    def add(self, answer: NDArray[Any], truth: NDArray[Any]) -> None:
        """Both of values from 0 to 255 [height, width, 3]."""
        squares = float(((answer.astype(np.float64) - truth) ** 2).sum())
        self.squares += squares
        self.points += truth.size
        self.same += squares == 0
        self.count += 1

    def values(self) -> dict[str, float]:
        mean = ratio(self.squares, self.points)
        psnr_db = math.inf if mean == 0 else 10 * math.log10(255**2 / mean)
        return {"psnr_db": psnr_db, "same": ratio(self.same, self.count)}


@dataclass
class EmbeddingMetric:
    """`cosine` with the unsplit model's embeddings, its mean and its `least`, and `first_hit`.

    `first_hit`: share of texts for which the same other text is nearest by cosine as of the unsplit
    embeddings. NaN for fewer than two texts. Embeddings, unlike other samples, are kept.
    """

    ours: list[NDArray[np.float32]] = field(default_factory=list)
    true: list[NDArray[np.float32]] = field(default_factory=list)

    def add(self, answer: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
        """Both float32 [channels]."""
        self.ours.append(answer)
        self.true.append(truth)

    def values(self) -> dict[str, float]:
        if not self.true:
            return dict.fromkeys(("cosine", "least", "first_hit"), math.nan)
        ours, true = _unit(self.ours), _unit(self.true)
        cosines = (ours * true).sum(1)
        same = float((_nearest(ours) == _nearest(true)).mean()) if len(true) > 1 else math.nan
        return {"cosine": float(cosines.mean()), "least": float(cosines.min()), "first_hit": same}


def _unit(rows: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    matrix = np.asarray(rows, np.float64)
    unit: NDArray[np.float64] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True).clip(1e-12)
    return unit


def _nearest(rows: NDArray[np.float64]) -> NDArray[np.int64]:
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -np.inf)
    nearest: NDArray[np.int64] = cosines.argmax(1)
    return nearest


def ratio(part: float, whole: int) -> float:
    """The share; NaN of nothing."""
    return part / whole if whole else math.nan


def finite(figures: Any) -> Any:
    """The same for JSON: null for what is not finite, such as the PSNR of equal images."""
    if isinstance(figures, dict):
        return {name: finite(each) for name, each in figures.items()}
    return None if isinstance(figures, float) and not math.isfinite(figures) else figures
