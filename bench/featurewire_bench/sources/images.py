"""Sources on grids: latents of an autoencoder from a file, and a small network's post-ReLU map."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from featurewire_bench.errors import SampleError
from featurewire_bench.latent_decoder import CHANNELS, load_decoder
from featurewire_bench.post_relu import GRID, accuracy, labelled_scenes, load_net

from .source import Array, Decoded, Grid, Part, Source


def latents_source(file: Path, calibration: int, tests: int) -> Source:
    """Latents of a variational autoencoder: the file's first array calibrates, its second tests.

    Both are [samples, rows * columns, channels] on square grids in raster order.

    Raises:
        SampleError: the file is none, or holds no such arrays.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            names = arrays.files[:2]
            pools = [np.asarray(arrays[name], np.float32) for name in names]
    except (OSError, ValueError) as error:
        raise SampleError(f"{file} holds no latents: {error}") from error
    if len(pools) < 2 or any(pool.ndim != 3 for pool in pools):
        raise SampleError(f"{file} must hold two arrays [samples, tokens, channels]")
    fitted, tested = pools[0][:calibration], pools[1][:tests]
    pictures = fitted.shape[2] == CHANNELS
    return Source(
        group="latents",
        title="VAE latents, photographs",
        note=f"{len(fitted)} of {names[0]} ({_text(_square(fitted))}, {fitted.shape[2]} channels) "
        f"calibrate, {len(tested)} of {names[1]} ({_text(_square(tested))}) test",
        parts=[Part("latents", list(fitted), list(tested), _square(fitted), _square(tested))],
        metric="error of pictures, grey levels" if pictures else None,
        score=_error_of_pictures(list(tested), _square(tested)) if pictures else None,
    )


def _error_of_pictures(tests: list[Array], grid: Grid) -> Callable[[Decoded], float]:
    """RMS of what pictures of decoded latents, and of those before, differ by, 0 to 255."""
    decoder = load_decoder()
    pictures = [decoder.grey_levels(latents, grid) for latents in tests]

    def score(decoded: Decoded) -> float:
        errors = [
            float(functional.mse_loss(decoder.grey_levels(latents, grid), picture))
            for latents, picture in zip(decoded[0], pictures, strict=True)
        ]
        return math.sqrt(sum(errors) / len(errors))

    return score


def post_relu_source(calibration: int, tests: int) -> Source:
    """The one-sided 16 x 16 x 64 feature of the benchmark's own network.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    net = load_net()
    seen = labelled_scenes(calibration, held_out=False, seed=1)
    unseen = labelled_scenes(tests, held_out=True, seed=2)

    def score(decoded: Decoded) -> float:
        with torch.inference_mode():
            logits = net.tail(torch.from_numpy(np.stack(decoded[0])))
        return accuracy(logits, unseen.labels)

    with torch.inference_mode():
        fitted, tested = (list[Array](net.head(s.images).numpy()) for s in (seen, unseen))
    return Source(
        group="cnn",
        title="CNN after a ReLU",
        note=f"{calibration} composed scenes of digits calibrate, {tests} of digits held out test "
        "(16 x 16 grid, 64 channels, never below zero)",
        parts=[Part("feature", fitted, tested, GRID, GRID)],
        metric="accuracy, %",
        score=score,
    )


def _square(samples: Array) -> Grid:
    side = round(samples.shape[1] ** 0.5)
    if side * side != samples.shape[1]:
        raise SampleError(f"{samples.shape[1]} tokens are no square grid")
    return side, side


def _text(grid: Grid) -> str:
    return f"{grid[0]} x {grid[1]}"
