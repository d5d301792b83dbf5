"""Pictures of what was measured: runs and images in, PNG files out. Needs matplotlib, an extra.

Colours are Okabe and Ito's, told apart by colour-blind readers too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from featurewire_bench.account import Run
from featurewire_bench.errors import MissingExtraError
from featurewire_bench.table import bytes_text, ms_text, times_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STAGES = ("head", "encode", "network", "decode", "tail")
STAGE_COLOURS = ("#0072B2", "#56B4E9", "#D55E00", "#F0E442", "#009E73")
OURS, PLAIN = "#0072B2", "#BBBBBB"
CLASS_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
DPI = 150
Image = npt.NDArray[Any]  # [height, width, 3] uint8, or [height, width] of one value a pixel


def _figure(width: float, height: float) -> "Figure":
    """A figure of that many inches, drawn without a display."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def require_matplotlib() -> None:
    """Raises MissingExtraError, with the command that installs it, where matplotlib is missing."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "pictures need matplotlib, which is not installed; pip install 'featurewire[bench]'"
        ) from error


def _bars_only(axes: "Axes") -> None:
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(axis="both", length=0)
    axes.set_xticks([])


def chart(pairs: Sequence[tuple[Run, Run]], path: Path) -> None:
    """Bytes and stage times of each task, ours above float16; a scale of its own for each task."""
    figure = _figure(11, 1.0 + 0.95 * len(pairs))
    grid = figure.subplots(len(pairs), 2, squeeze=False, width_ratios=(2, 3))
    for (ours, plain), (left, right) in zip(pairs, grid, strict=True):
        _draw_bytes(left, ours, plain)
        _draw_stages(right, ours, plain)
    link = f"{pairs[0][0].rate_mbit:g} Mbit/s, {pairs[0][0].rtt_ms:g} ms round trip"
    grid[0][0].set_title("bytes sent, one inference", loc="left", fontsize=11, pad=14)
    grid[0][1].set_title(f"milliseconds over {link}", loc="left", fontsize=11, pad=14)
    handles, labels = grid[0][1].get_legend_handles_labels()
    figure.legend(
        handles[: len(STAGES)],
        labels[: len(STAGES)],
        loc="outside lower right",
        ncols=len(STAGES),
        frameon=False,
    )
    figure.savefig(path)


def _draw_bytes(axes: "Axes", ours: Run, plain: Run) -> None:
    sent = (ours.sent_bytes, plain.sent_bytes)
    axes.barh((1, 0), sent, color=(OURS, PLAIN), height=0.72)
    gain = f"{bytes_text(sent[0])}  ({times_text(sent[1], sent[0])} less)"
    for y, size, text in zip((1, 0), sent, (gain, bytes_text(sent[1])), strict=True):
        axes.text(size + 0.015 * max(sent), y, text, va="center", fontsize=9)
    axes.set_xlim(0, 1.25 * max(sent))
    axes.set_yticks((1, 0), ("featurewire", "float16"), fontsize=9)
    title = f"{ours.model}\n{ours.task}"
    axes.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=10, labelpad=8)
    _bars_only(axes)


def _draw_stages(axes: "Axes", ours: Run, plain: Run) -> None:
    longest = 0.0
    for y, run in ((1, ours), (0, plain)):
        start = 0.0
        for stage, colour in zip(STAGES, STAGE_COLOURS, strict=True):
            width = getattr(run.ms, stage)
            axes.barh(y, width, left=start, color=colour, height=0.72, label=stage)
            start += width
        axes.text(start, y, f" {ms_text(run.ms.total)} ms in all", va="center", fontsize=9)
        longest = max(longest, start)
    axes.set_xlim(0, 1.25 * longest)
    axes.set_yticks((1, 0), ("featurewire", "float16"), fontsize=9)
    _bars_only(axes)


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


def overlay(image: Image, labels: Image, opacity: float = 0.6) -> Image:
    """The image with every class but 0 tinted in its colour; [height, width, 3] uint8."""
    tinted = np.repeat(image[..., None], 3, -1) if image.ndim == 2 else image[..., :3]
    tinted = tinted.astype(np.float64)
    for label in np.unique(labels):
        if 0 < label < 255:
            colour = 255 * np.array(class_colour(int(label)))
            where = labels == label
            tinted[where] = (1 - opacity) * tinted[where] + opacity * colour
    return tinted.round().astype(np.uint8)


def segmentation(samples: Sequence[Segmented], names: Mapping[int, str], path: Path) -> None:
    """Input, truth, unsplit and split prediction of each sample, with a legend of the classes."""
    from matplotlib.patches import Patch

    figure = _figure(8.2, 0.9 + 2.0 * len(samples))
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
            handles=patches, loc="outside lower center", ncols=min(8, len(patches)), frameon=False
        )
    figure.savefig(path)


def side_by_side(pairs: Sequence[tuple[str, Image, Image]], caption: str, path: Path) -> None:
    """Generated images (title, unsplit, split), unsplit beside split, and one caption below."""
    across = min(2, len(pairs))
    down = -(-len(pairs) // across)
    figure = _figure(1.0 + 4.2 * across, 0.9 + 2.4 * down)
    grid = figure.subplots(down, 2 * across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for i, (title, unsplit, split) in enumerate(pairs):
        cells = grid[i // across][2 * (i % across) : 2 * (i % across) + 2]
        for axes, image, kind in zip(cells, (unsplit, split), ("unsplit", "split"), strict=True):
            axes.imshow(image, interpolation="nearest")
            axes.set_title(f"{title}\n{kind}", fontsize=9)
    figure.supxlabel(caption, fontsize=9)
    figure.savefig(path)
