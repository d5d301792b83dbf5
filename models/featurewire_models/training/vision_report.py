"""The saved folder tiny-dinov2 in; its figures on held-out digits and the demo's samples out.

Everything here loads the folder with the models' own ``from_pretrained``, in float32.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional
from transformers import Dinov2ForImageClassification, DPTForDepthEstimation

from featurewire_models.dinov2 import Dinov2ForSemanticSegmentation
from featurewire_models.training.digits import (
    BACKGROUND_DEPTH,
    NAMES,
    Digits,
    Kind,
    Scene,
    load_digits,
    scene,
)
from featurewire_models.training.vision_model import scene_batch

SEED = 1000
SAMPLES = 20  # a task
DEPTH_UNITS = 10_000  # a sample's 16-bit depth is in steps of 1 / 10000


def main(arguments: list[str] | None = None) -> None:
    """Print the figures; write samples if asked."""
    parser = argparse.ArgumentParser(
        prog="python -m featurewire_models.training.vision_report",
        description="Measure a tiny-dinov2 folder on scenes composed of held-out digits.",
    )
    parser.add_argument("folder", type=Path, help="what the training wrote")
    parser.add_argument("--scenes", type=int, default=1000, help="scenes a task")
    parser.add_argument("--samples", type=Path, help="folder for the demo's held-out inputs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    _, held_out = load_digits()
    print(json.dumps(measure(options.folder, held_out, options.scenes), indent=2))
    if options.samples:
        write_samples(options.samples, held_out)


def compose(kind: Kind, digits: Digits, count: int, seed: int = SEED) -> list[Scene]:
    """The same `count` scenes for the same seed."""
    rng = np.random.default_rng(seed)
    return [scene(rng, digits, kind) for _ in range(count)]


@torch.no_grad()
def measure(folder: Path, digits: Digits, count: int) -> dict[str, float]:
    """Figures of the three saved models on `count` scenes a task.

    top1: share of single digits recognised. miou: mean over 11 classes of intersection over
    union, of the scores brought to 64x64 bilinearly. depth_rmse and depth_delta1 (share of pixels
    within a factor 1.25), beside those of predicting the mean depth everywhere.
    """
    float32 = {"dtype": torch.float32}
    classifier = Dinov2ForImageClassification.from_pretrained(folder, **float32).eval()
    segmenter = Dinov2ForSemanticSegmentation.from_pretrained(folder / "segmentation", **float32)
    estimator = DPTForDepthEstimation.from_pretrained(folder / "depth", **float32).eval()
    pixels, labels, _, _ = scene_batch(compose("single", digits, count))
    scores = torch.cat([classifier(part).logits for part in torch.split(pixels, 100)])
    pixels, _, masks, depth = scene_batch(compose("crowded", digits, count, SEED + 1))
    segmenter.eval()
    classes = torch.cat(
        [
            functional.interpolate(
                segmenter(part).logits, size=masks.shape[-2:], mode="bilinear"
            ).argmax(1)
            for part in torch.split(pixels, 100)
        ]
    )
    predicted = torch.cat([estimator(part).predicted_depth for part in torch.split(pixels, 100)])
    mean = torch.full_like(depth, float(depth.mean()))
    digits_seen = masks > 0
    return {
        "top1": float((scores.argmax(1) == labels).float().mean()),
        "miou": mean_iou(classes, masks),
        "pixel_accuracy": float((classes == masks).float().mean()),
        "depth_rmse": rmse(predicted, depth),
        "depth_rmse_of_mean": rmse(mean, depth),
        "depth_rmse_on_digits": rmse(predicted[digits_seen], depth[digits_seen]),
        "depth_delta1": delta1(predicted, depth),
        "depth_delta1_of_mean": delta1(mean, depth),
        "depth_delta1_of_background": delta1(torch.full_like(depth, BACKGROUND_DEPTH), depth),
        "depth_delta1_on_digits": delta1(predicted[digits_seen], depth[digits_seen]),
    }


def mean_iou(predicted: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean over the 11 classes of intersection over union of all pixels."""
    shares = []
    for index in range(len(NAMES) + 1):
        ours, theirs = predicted == index, truth == index
        shares.append(float((ours & theirs).sum() / (ours | theirs).sum().clamp_min(1)))
    return float(np.mean(shares))


def rmse(predicted: torch.Tensor, truth: torch.Tensor) -> float:
    """Root of the mean squared error."""
    return float((predicted - truth).pow(2).mean().sqrt())


def delta1(predicted: torch.Tensor, truth: torch.Tensor) -> float:
    """Share of pixels whose depth is right within a factor of 1.25."""
    ratio = torch.maximum(predicted / truth, truth / predicted.clamp_min(1e-6))
    return float((ratio < 1.25).float().mean())


def write_samples(folder: Path, digits: Digits) -> None:
    """The demo's inputs of every task with their ground truth."""
    for task in ("classification", "segmentation", "depth"):
        (folder / task).mkdir(parents=True, exist_ok=True)
    labels = {}
    for at, item in enumerate(compose("single", digits, SAMPLES, SEED + 2)):
        _save(item.image, folder / "classification" / f"{at:02}.png")
        labels[f"{at:02}.png"] = NAMES[item.label]
    text = json.dumps(labels, indent=2) + "\n"
    (folder / "classification" / "labels.json").write_text(text)
    for at, item in enumerate(compose("crowded", digits, SAMPLES, SEED + 3)):
        _save(item.image, folder / "segmentation" / f"{at:02}.png")
        _save(item.mask, folder / "segmentation" / f"{at:02}_mask.png")
    for at, item in enumerate(compose("crowded", digits, SAMPLES, SEED + 4)):
        _save(item.image, folder / "depth" / f"{at:02}.png")
        steps = np.rint(item.depth * DEPTH_UNITS).astype(np.uint16)
        _save(steps, folder / "depth" / f"{at:02}_depth.png")


def _save(pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], path: Path) -> None:
    Image.fromarray(pixels).save(path, optimize=True)


if __name__ == "__main__":
    main()
