"""Composed digit scenes in, the bundled folder tiny-dinov2 out.

One Dinov2 backbone learns classification, segmentation and depth together, first on scenes
shrunk to half their size (a quarter of the patches), then at full size, in four cycles of the
learning rate. Each task's folder is saved with the whole backbone, the way a folder of the hub
would be.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from featurewire_models.training import digits as scenes
from featurewire_models.training.muon import Muon
from featurewire_models.training.vision_model import VisionModel, scene_batch


@dataclass(frozen=True)
class Cycle:
    """One rise and fall of the learning rate."""

    steps: int
    small: float  # the share of them on scenes of half size, which cost about a quarter
    peak: float  # share of the highest learning rates below
    crowded: int  # scenes of a batch that are crowded; the rest are single digits
    mask: float  # weight of the masks' loss
    share: float  # of the time, when the clock sets the pace


# to tell several digits apart is what is learnt last: the last cycles are mostly about that
CYCLES = (
    Cycle(steps=1800, small=0.85, peak=1.0, crowded=16, mask=1.0, share=0.34),
    Cycle(steps=360, small=0.0, peak=0.6, crowded=16, mask=1.0, share=0.15),
    Cycle(steps=560, small=0.0, peak=0.8, crowded=24, mask=3.0, share=0.25),
    Cycle(steps=600, small=0.0, peak=0.7, crowded=20, mask=3.0, share=0.26),
)
BATCH = 32
MUON_RATE = 1e-2
ADAM_RATE = 1.5e-3
WARM_UP = 0.05
SEED = 20


def main(arguments: list[str] | None = None) -> None:
    """Train and save tiny-dinov2."""
    parser = argparse.ArgumentParser(
        prog="python -m featurewire_models.training.vision",
        description="Train tiny-dinov2 (classification, segmentation, depth) on handwritten "
        "digits composed into 64x64 scenes. Needs scikit-learn. One core, about an hour.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--minutes",
        type=float,
        help="stop after so many minutes, with the schedule squeezed to fit (a quick look; "
        "the default counts steps, which gives the same weights every time)",
    )
    parser.add_argument(
        "--resume", type=Path, help="folder as the last cycle but one leaves it: run only the last"
    )
    options = parser.parse_args(arguments)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    model = VisionModel()
    if options.resume:
        model.load_weights(options.resume)
    for index, cycle in enumerate(CYCLES):
        if options.resume and index < len(CYCLES) - 1:
            continue
        minutes = None if options.minutes is None else cycle.share * options.minutes
        train(model, cycle, SEED + index, minutes)
        model.save_pretrained(options.out)
        # go on from what was saved, so that a resumed run is the same run
        model.load_weights(options.out)
        print(f"saved {options.out}", flush=True)


def train(model: VisionModel, cycle: Cycle, seed: int, minutes: float | None) -> None:
    """Fit `model` to freshly composed scenes for one cycle."""
    digits, held_out = scenes.load_digits()
    rng = np.random.default_rng(seed)
    muon, adam = build_optimisers(model)
    started, step, averages = time.monotonic(), 0, np.zeros(3)
    while True:
        elapsed = (time.monotonic() - started) / 60.0
        progress = step / cycle.steps if minutes is None else elapsed / minutes
        if progress >= 1.0:
            break
        # the clock's share of small steps is lower than their count's, for they are cheaper
        small = progress < cycle.small * (1.0 if minutes is None else 0.7)
        losses = task_losses(model, rng, digits, cycle.crowded, small)
        model.zero_grad()
        (losses * torch.tensor([1.0, cycle.mask, 1.0])).sum().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.param_groups[0]["lr"] = MUON_RATE * cycle.peak * rate(progress)
        adam.param_groups[0]["lr"] = ADAM_RATE * cycle.peak * rate(progress)
        muon.step()
        adam.step()
        averages += 0.02 * (losses.detach().numpy() - averages)
        step += 1
        if step % 50 == 0:
            classes, masks, depth = averages / (1.0 - 0.98**step)
            print(
                f"step {step} {elapsed:.1f} min {'small' if small else 'full'} "
                f"loss: class {classes:.3f} mask {masks:.3f} depth {depth:.3f}",
                flush=True,
            )
        if step % 250 == 0:
            print(f"held-out top-1 {accuracy(model, held_out, small):.3f}", flush=True)


def build_optimisers(model: VisionModel) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the blocks' matrices, AdamW for all else."""
    blocks = model.classification.dinov2.encoder
    matrices = [weight for weight in blocks.parameters() if weight.ndim == 2]
    chosen = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in chosen]
    muon = Muon(matrices, lr=0.0, momentum=0.95, weight_decay=0.05)
    return muon, torch.optim.AdamW(others, weight_decay=0.05, betas=(0.9, 0.98))


def rate(progress: float) -> float:
    """Linear warm-up, then a cosine down to nothing at progress 1: a share of the peak rate."""
    if progress < WARM_UP:
        return progress / WARM_UP + 0.01
    return 0.5 * (1.0 + float(np.cos(np.pi * (progress - WARM_UP) / (1.0 - WARM_UP))))


def task_losses(
    model: VisionModel, rng: np.random.Generator, digits: scenes.Digits, many: int, small: bool
) -> torch.Tensor:
    """Cross-entropy of classes, cross-entropy of masks and mean depth error: [3].

    Of a new batch, `many` scenes are crowded.
    """
    single = [scenes.scene(rng, digits, "single") for _ in range(BATCH - many)]
    crowded = [scenes.scene(rng, digits, "crowded") for _ in range(many)]
    pixels, labels, masks, depth = scene_batch(single + crowded, small)
    class_scores, mask_scores, predicted = model(pixels, len(single))
    mask_scores = functional.interpolate(
        mask_scores, size=masks.shape[-2:], mode="bilinear", align_corners=False
    )
    return torch.stack(
        [
            functional.cross_entropy(class_scores, labels[: len(single)], label_smoothing=0.05),
            functional.cross_entropy(mask_scores, masks),
            functional.l1_loss(predicted, depth),
        ]
    )


@torch.no_grad()
def accuracy(model: VisionModel, digits: scenes.Digits, small: bool, count: int = 200) -> float:
    """The share of held-out single digits that are recognised."""
    rng = np.random.default_rng(7)
    held_out = [scenes.scene(rng, digits, "single") for _ in range(count)]
    pixels, labels, _, _ = scene_batch(held_out, small)
    scores, _, _ = model(pixels, count)
    return float((scores.argmax(1) == labels).float().mean())


if __name__ == "__main__":
    main()
