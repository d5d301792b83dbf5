"""Images in, the digit that a small independent classifier recognises in each out.

The judge measures text-to-image quality: it was trained apart from every bundled model, on real
handwritten digits in two colours, and never saw a generated image.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

SIDE = 32  # pixels a side that the classifier looks at
BORDER = 3  # pixels that are taken for background


class Judge(nn.Module):
    """Recognises the digit in a two-coloured picture, whatever the colours."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 16, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores [n, 10] of the digits in `images`, uint8 [n, height, width, 3]."""
        scores: torch.Tensor = self.layers(ink(images))
        return scores

    @torch.no_grad()
    def digits(self, images: torch.Tensor) -> torch.Tensor:
        """The digit recognised in each of `images`, uint8 [n, height, width, 3]: int64 [n]."""
        return self.forward(images).argmax(dim=1)

    def save(self, path: Path) -> None:
        """Write the weights, in float16."""
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.half() for name, value in self.state_dict().items()}, path)

    @classmethod
    def load(cls, path: Path) -> Judge:
        """Read weights that `save` wrote."""
        judge = cls()
        judge.load_state_dict({name: value.float() for name, value in load_file(path).items()})
        return judge.eval()


def ink(images: torch.Tensor) -> torch.Tensor:
    """How far each pixel is from the background's colour, 0..1: float32 [n, 1, 32, 32]."""
    pixels = images.permute(0, 3, 1, 2).float() / 255.0
    frame = torch.cat(
        [
            pixels[..., :BORDER, :].flatten(2),
            pixels[..., -BORDER:, :].flatten(2),
            pixels[..., BORDER:-BORDER, :BORDER].flatten(2),
            pixels[..., BORDER:-BORDER, -BORDER:].flatten(2),
        ],
        dim=2,
    )
    background = frame.median(dim=2).values[:, :, None, None]
    distance = (pixels - background).pow(2).sum(dim=1, keepdim=True).sqrt()
    brightest = distance.amax(dim=(2, 3), keepdim=True).clamp_min(1e-3)
    return functional.interpolate(distance / brightest, size=(SIDE, SIDE), mode="area")
