"""Captioned scenes in, the weights of the judge of generated digits out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from featurewire_models.judge import Judge
from featurewire_models.training.digits import Digits, load_digits, scene

STEPS = 800
BATCH = 64
PEAK_RATE = 4e-3


def train_judge(path: Path, seed: int) -> None:
    """Fit a judge to training digits, print its accuracy on held-out ones and write it."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    digits, held_out = load_digits()
    judge = Judge()
    optimiser = torch.optim.AdamW(judge.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=STEPS)
    for _ in range(STEPS):
        images, labels = scene_images(rng, digits, BATCH)
        loss = functional.cross_entropy(judge(images), labels, label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    judge.save(path)
    images, labels = scene_images(np.random.default_rng(seed + 1), held_out, 1000)
    right = (Judge.load(path).digits(images) == labels).float().mean()
    print(f"judge: {100 * float(right):.1f} % of held-out digits", flush=True)


def scene_images(
    rng: np.random.Generator, digits: Digits, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Captioned scenes as the judge sees them: uint8 [n, 64, 64, 3], labels [n]."""
    scenes = [scene(rng, digits, "captioned") for _ in range(count)]
    images = torch.from_numpy(np.stack([item.image for item in scenes]))
    return images, torch.tensor([item.label for item in scenes])
