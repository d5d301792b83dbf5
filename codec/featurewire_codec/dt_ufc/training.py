"""Training of the networks: feature files and lambdas in, weights files and a log out.

    python -m featurewire_codec.dt_ufc.training FEATURES... --out FOLDER

The loss is lambda * 255^2 * MSE + bits a pixel, on index planes scaled to [0, 1) (DT-UFC, arXiv
2506.16495), by Adam. An epoch is as many pixels as the training pictures have. The first lambda
starts from nothing, each next one from the one before. The last ten epochs (of fewer than thirty, a
third) are at a tenth of the learning rate; of those before, three quarters are at the whole of it
and the rest at a rate that falls geometrically. So the log tells a loss that is flat from a rate
that falls. Numbers come from one thread and a fixed seed.
"""

import argparse
import csv
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch

from .crops import Source, random_crops, read_sources
from .hyperprior import Hyperprior
from .kmeans import CENTRES
from .weights import load_network, save_network

CROP = 256
BATCH = 1
LEARNING_RATE = 1e-3
LEAST_LEARNING_RATE = 1e-4  # the paper's
CONSTANT_PART = 0.75
LARGEST_GRADIENT = 1.0
FLAT_EPOCHS = 10
LAMBDAS = (0.02, 0.005, 0.001)
EPOCHS = (100, 30, 60)
LOG = "training.csv"


@dataclass(frozen=True)
class Epoch:
    """A line of the log. Losses, bits and errors are means a pixel; held-out ones with rounding."""

    network: str
    lambda_: float
    epoch: int
    seconds: float
    learning_rate: float
    training_loss: float
    held_out_loss: float
    held_out_bits: float
    held_out_mse_255: float


def train(
    network: Hyperprior,
    sources: Sequence[Source],
    name: str,
    lambda_: float,
    epochs: range,
    seed: int = 0,
    bfloat16: bool = False,
) -> Iterator[Epoch]:
    """Train in place; yields after every epoch of `epochs`, the first of which may be above 0.

    bfloat16: of the convolutions in training; the held-out samples are always coded in float32.
    """
    rng = np.random.default_rng([seed, epochs.start, round(lambda_ * 1e6)])
    torch.manual_seed(seed + epochs.start)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    steps = max(1, round(sum(source.pixels for source in sources) / (BATCH * CROP * CROP)))
    held_out = to_plane(np.concatenate([source.held_out for source in sources]))
    for epoch in epochs:
        started, losses = time.perf_counter(), 0.0
        network.train()
        for step in range(steps):
            rate = learning_rate(epoch + step / steps, epochs.stop)
            for group in optimiser.param_groups:
                group["lr"] = rate
            plane = to_plane(random_crops(sources, CROP, BATCH, rng))
            bits, error = _pass(network, plane, bfloat16)
            loss = lambda_ * error + bits
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
            optimiser.step()
            losses += float(loss.detach())
        network.eval()
        with torch.inference_mode():
            passes = [_pass(network, part) for part in torch.split(held_out, 2)]
        held_bits = float(np.mean([float(bits) for bits, _ in passes]))
        held_error = float(np.mean([float(error) for _, error in passes]))
        yield Epoch(
            network=name,
            lambda_=lambda_,
            epoch=epoch,
            seconds=round(time.perf_counter() - started, 2),
            learning_rate=float(f"{rate:.4g}"),
            training_loss=round(losses / steps, 5),
            held_out_loss=round(lambda_ * held_error + held_bits, 5),
            held_out_bits=round(held_bits, 5),
            held_out_mse_255=round(held_error, 3),
        )


def learning_rate(epoch: float, epochs: int) -> float:
    """Of the time `epoch`, 0 to `epochs`."""
    settled = epochs - min(FLAT_EPOCHS, epochs // 3)
    falling = (epoch / settled - CONSTANT_PART) / (1 - CONSTANT_PART)
    return float(LEARNING_RATE * (LEAST_LEARNING_RATE / LEARNING_RATE) ** min(max(falling, 0), 1))


def to_plane(indices: np.ndarray) -> torch.Tensor:
    """Scale uint8[n, height, width] to float32[n, 1, height, width] in [0, 1)."""
    plane = torch.from_numpy(indices).float().unsqueeze(1) / CENTRES
    return plane.contiguous(memory_format=torch.channels_last)


def flatness(losses: Sequence[float]) -> float:
    """How far the straight line through the last ten losses falls or rises, as part of the loss."""
    last = np.asarray(losses[-FLAT_EPOCHS:])
    if last.size < FLAT_EPOCHS:
        return float("inf")
    slope = np.polyfit(np.arange(last.size), last, 1)[0]
    return float(abs(slope) * (last.size - 1) / last.mean())


def _pass(
    network: Hyperprior, plane: torch.Tensor, bfloat16: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Bits a pixel, and the MSE on a scale of 255."""
    passed = network(plane, bfloat16)
    error = 255**2 * torch.nn.functional.mse_loss(passed.decoded, plane)
    return passed.bits / plane.numel(), error


def main(arguments: list[str] | None = None) -> None:
    """Train one network for each lambda."""
    parser = argparse.ArgumentParser(
        prog="python -m featurewire_codec.dt_ufc.training",
        description="Train DT-UFC networks on feature files.",
    )
    parser.add_argument("features", type=Path, nargs="+", help=".npy files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and log")
    parser.add_argument("--name", default="hybrid", help="what the weights files are called")
    parser.add_argument("--lambdas", type=float, nargs="+", default=LAMBDAS)
    parser.add_argument("--epochs", type=int, nargs="+", default=EPOCHS, help="for each lambda")
    parser.add_argument(
        "--linear",
        action="store_true",
        help="normalise linearly instead of by k-means: a task-specific codec",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        help="convolve in bfloat16: twice as fast where the CPU has it, to the same loss",
    )
    options = parser.parse_args(arguments)
    if len(options.epochs) != len(options.lambdas):
        parser.error("give as many --epochs as --lambdas")
    torch.set_num_threads(options.threads)
    sources = read_sources(options.features, CROP, options.linear)
    for source in sources:
        print(f"{source.name}: {source.pixels / 1e6:.2f} Mpixels to train on", flush=True)
    torch.manual_seed(0)
    network = Hyperprior()
    for lambda_, epochs in zip(options.lambdas, options.epochs, strict=True):
        path = options.out / f"{options.name}-{lambda_:g}.safetensors"
        done = 0
        if path.exists():  # trained before, or in part: go on from there
            network, metadata = load_network(path)
            done = int(metadata["epochs"])
        run = range(done, epochs)
        for line in train(network, sources, options.name, lambda_, run, bfloat16=options.bfloat16):
            metadata = {
                "lambda": f"{lambda_:g}",
                "epochs": str(line.epoch + 1),
                "trained on": ", ".join(Path(source.name).stem for source in sources),
                "transform": "linear" if options.linear else "k-means",
            }
            save_network(network, path, metadata)
            _append(options.out / LOG, line)
            print(line, flush=True)
        _report(options.out / LOG, options.name, lambda_)


def _report(log: Path, name: str, lambda_: float) -> None:
    """Say whether the loss was flat, before the rate fell and at the end."""
    with log.open(newline="") as file:
        own = [
            line
            for line in csv.DictReader(file)
            if line["network"] == name and float(line["lambda_"]) == lambda_
        ]
    losses = [float(line["held_out_loss"]) for line in own]
    constant = [
        x
        for x, line in zip(losses, own, strict=True)
        if float(line["learning_rate"]) == LEARNING_RATE
    ]
    for when, part in (("at the constant rate", constant), ("at the end", losses)):
        change = flatness(part)
        verdict = "flat" if change < 0.01 else "not flat"
        print(f"{name} lambda {lambda_:g}: {verdict} {when}, {change:.2%} over ten epochs")


def _append(log: Path, line: Epoch) -> None:
    new = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)])
        if new:
            writer.writeheader()
        writer.writerow(asdict(line))


if __name__ == "__main__":
    main()
