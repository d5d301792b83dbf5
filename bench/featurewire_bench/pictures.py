"""Images beside images: inputs, label maps, generated pictures in, PNG files out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import numpy.typing as npt

from featurewire_bench.figures import new_figure

# Okabe and Ito's seven, and three of Paul Tol's that are told apart from them
CLASS_COLOURS = (
    *("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2"),
    *("#D55E00", "#CC79A7", "#882255", "#999933", "#AA4499"),
)
Image = npt.NDArray[Any]  # [height, width, 3] uint8, or [height, width] of one value a pixel


@dataclass(frozen=True)
class Segmented:
    """One image and its label maps, all of one size."""

    image: Image
    truth: Image
    unsplit: Image
    split: Image


def class_colour(label: int) -> tuple[float, float, float]:
    """The colour of a class; class 0 is background and stays without."""
    code = CLASS_COLOURS[(label - 1) % len(CLASS_COLOURS)]
    shade = 0.7 ** ((label - 1) // len(CLASS_COLOURS))
    red, green, blue = (int(code[i : i + 2], 16) / 255 * shade for i in (1, 3, 5))
    return red, green, blue


def overlay(image: Image, labels: Image, opacity: float = 0.75) -> Image:
    """The image in grey with every class but 0 tinted in its colour; [height, width, 3] uint8."""
    grey = image.astype(np.float64) if image.ndim == 2 else image[..., :3].mean(-1)
    tinted = np.repeat(grey[..., None], 3, -1)
    for label in np.unique(labels):
        if 0 < label < 255:
            colour = 255 * np.array(class_colour(int(label)))
            where = labels == label
            tinted[where] = (1 - opacity) * tinted[where] + opacity * colour
    return tinted.round().astype(np.uint8)


def segmentation_picture(
    samples: Sequence[Segmented], names: Mapping[int, str], path: Path
) -> None:
    """Input, truth, unsplit and split prediction of each sample, with a legend of the classes."""
    from matplotlib.patches import Patch

    figure = new_figure(8.2, 1.1 + 2.0 * len(samples))
    grid = figure.subplots(len(samples), 4, squeeze=False)
    for row, sample in zip(grid, samples, strict=True):
        views = [sample.image] + [
            overlay(sample.image, labels) for labels in (sample.truth, sample.unsplit, sample.split)
        ]
        for axes, view in zip(row, views, strict=True):
            axes.imshow(view, cmap="gray", interpolation="nearest")
            axes.set_axis_off()
    for axes, title in zip(grid[0], ("input", "truth", "unsplit", "split"), strict=True):
        axes.set_title(title, fontsize=11)
    present = {int(v) for s in samples for m in (s.truth, s.unsplit, s.split) for v in np.unique(m)}
    patches = [
        Patch(color=class_colour(label), label=names.get(label, str(label)))
        for label in sorted(present)
        if 0 < label < 255
    ]
    if patches:
        figure.legend(
            handles=patches, loc="outside lower center", ncols=min(5, len(patches)), frameon=False
        )
    figure.savefig(path)


def side_by_side(pairs: Sequence[tuple[str, Image, Image]], caption: str, path: Path) -> None:
    """Generated images (title, unsplit, split), unsplit beside split, and one caption below."""
    across = min(2, len(pairs))
    down = -(-len(pairs) // across)
    figure = new_figure(4.6 * across, 0.5 + 3.0 * down)
    grid = figure.subplots(down, 2 * across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for i, (title, unsplit, split) in enumerate(pairs):
        cells = grid[i // across][2 * (i % across) : 2 * (i % across) + 2]
        for axes, image, kind in zip(cells, (unsplit, split), ("unsplit", "split"), strict=True):
            axes.imshow(image, interpolation="nearest")
            axes.set_title(f"{fill(title, 26)}\n{kind}", fontsize=9)
    figure.supxlabel(fill(caption, 60 * across), fontsize=9)
    figure.savefig(path)
