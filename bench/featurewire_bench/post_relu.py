"""A small residual network whose feature is one-sided: what leaves a ReLU on a 16 x 16 grid.

Composed 64 x 64 scenes of handwritten digits in, which digit is nearest out. It is the benchmark's
source of post-ReLU features; `python -m featurewire_bench.post_relu` trains it again, weights
beside this file. After K. He et al., "Deep residual learning", arXiv 1512.03385.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from featurewire_bench.errors import MissingExtraError, SampleError

WEIGHTS = Path(__file__).with_name("post_relu.safetensors")
GRID = (16, 16)
CHANNELS = 64
STEPS, BATCH, RATE = 900, 64, 2e-3
SEED = 5


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, a ReLU last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = convolution(channels, channels), convolution(channels, channels)

    def forward(self, images: Tensor) -> Tensor:
        """[n, channels, height, width], the same out."""
        return functional.relu(images + self.second(functional.relu(self.first(images))))


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution and its normalisation."""
    weights = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(weights, nn.BatchNorm2d(outputs))


class PostReluNet(nn.Module):
    """The network in two halves; the feature between them is never below zero."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(3, 32, stride=2)
        self.low = Block(32)
        self.down = convolution(32, CHANNELS, stride=2)
        self.middle = Block(CHANNELS)
        self.further = convolution(CHANNELS, CHANNELS, stride=2)
        self.high = Block(CHANNELS)
        self.classes = nn.Linear(CHANNELS, 10)

    def head(self, images: Tensor) -> Tensor:
        """uint8 [n, 64, 64, 3] to the feature, float32 [n, 16 * 16, 64] in raster order."""
        pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        low = self.low(functional.relu(self.stem(pixels)))
        feature: Tensor = self.middle(functional.relu(self.down(low)))
        return feature.flatten(2).transpose(1, 2)

    def tail(self, feature: Tensor) -> Tensor:
        """The feature to logits [n, 10]."""
        grid = feature.transpose(1, 2).reshape(-1, CHANNELS, *GRID)
        high = self.high(functional.relu(self.further(grid)))
        logits: Tensor = self.classes(high.mean((2, 3)))
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [n, 64, 64, 3] to logits [n, 10]."""
        return self.tail(self.head(images))


@dataclass(frozen=True)
class Labelled:
    """images uint8 [n, 64, 64, 3] and labels int64 [n]."""

    images: Tensor
    labels: Tensor


def labelled_scenes(count: int, held_out: bool, seed: int) -> Labelled:
    """Compose scenes from the digits trained on, or from those held out.

    Raises:
        MissingExtraError: scikit-learn, which carries the digits, is not installed.
    """
    try:
        from featurewire_models.training.digits import load_digits, scene

        digits = load_digits()[held_out]
    except ImportError as error:
        raise MissingExtraError(
            "scenes are made of scikit-learn's digits; pip install 'featurewire[train]'"
        ) from error
    rng = np.random.default_rng(seed)
    scenes = [scene(rng, digits, "single") for _ in range(count)]
    images: NDArray[np.uint8] = np.stack([scene.image for scene in scenes])
    return Labelled(torch.from_numpy(images), torch.tensor([scene.label for scene in scenes]))


def load_net(path: Path = WEIGHTS) -> PostReluNet:
    """Read the trained network; SampleError when its weights are missing or of another shape."""
    net = PostReluNet()
    try:
        net.load_state_dict(load_file(path))
    except (OSError, RuntimeError) as error:
        raise SampleError(f"{path} holds no weights of this network: {error}") from error
    return net.eval()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """The share of rows whose largest logit is at the label, in percent."""
    return 100 * float((logits.argmax(1) == labels).float().mean())


def train(steps: int = STEPS) -> PostReluNet:
    """Fit the network on freshly composed scenes; the same weights every time on one machine."""
    torch.manual_seed(SEED)
    net = PostReluNet()
    adam = torch.optim.AdamW(net.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, RATE, total_steps=steps)
    held_out = labelled_scenes(500, held_out=True, seed=SEED)
    started = time.monotonic()
    for step in range(1, steps + 1):
        batch = labelled_scenes(BATCH, held_out=False, seed=1000 + step)
        loss = functional.cross_entropy(net(batch.images), batch.labels, label_smoothing=0.05)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        schedule.step()
        if step % 100 == 0 or step == steps:
            net.eval()
            with torch.inference_mode():
                right = accuracy(net(held_out.images), held_out.labels)
            net.train()
            minutes = (time.monotonic() - started) / 60
            print(f"step {step}, {minutes:.1f} min, loss {loss:.3f}, held out {right:.1f} %")
    return net.eval()


def main(arguments: list[str] | None = None) -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(
        prog="python -m featurewire_bench.post_relu",
        description="Train the benchmark's post-ReLU network. Some minutes of one core.",
    )
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="file to write")
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    net = train(options.steps)
    save_file(net.state_dict(), options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
