"""One picture of the codecs' results: bits over SNR, a panel a source, lines named where they end.

Colours are Okabe and Ito's, told apart by colour-blind readers too. Needs matplotlib, an extra.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featurewire_bench.baselines import ANCHOR, CHANNEL_TABLES
from featurewire_bench.codecs_report import codec_curve
from featurewire_bench.curves import Curve, bits_at
from featurewire_bench.figures import new_figure
from featurewire_bench.rate_distortion import OURS, TRELLIS, Measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS, ACROSS = 6, 3
SNR_RANGE, MAX_BITS = (5.0, 25.0), 6.0
LINE_GAP = 0.36  # bits between the names of two lines
INK, MUTED = "#222222", "#666666"


@dataclass(frozen=True)
class Style:
    """How a codec is drawn, and what it is called at the line's end."""

    codec: str
    label: str
    colour: str
    width: float
    dashes: str = "-"


STYLES = (
    Style("zfp", "zfp", "#CC79A7", 1.3),
    Style("SZ3", "SZ3", "#009E73", 1.3),
    Style("CacheGen style", "CacheGen style", "#E69F00", 1.3),
    Style("DT-UFC", "DT-UFC", "#D55E00", 1.3),
    Style(ANCHOR, "uniform + table", "#888888", 1.8),
    Style(TRELLIS, "featurewire, trellis", "#0072B2", 1.3, "--"),
    Style(OURS, "featurewire", "#0072B2", 2.8),
)
MARKED = {"int4 groups + zstd": "int4"}


def rate_distortion_figure(results: Sequence[Measured], path: Path) -> None:
    """Draw at most six sources, one of each group first.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    shown = chosen(results)
    across = min(ACROSS, len(shown))
    down = -(-len(shown) // across)
    figure = new_figure(0.6 + 3.9 * across, 0.9 + 3.0 * down)
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, measured in zip(panels, shown, strict=False):
        _panel(axes, measured)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    figure.suptitle(
        "Bits a feature needs for an SNR: lower is better", x=0.01, ha="left", fontsize=13
    )
    figure.supxlabel("SNR of the decoded feature, dB", fontsize=10, color=MUTED)
    figure.supylabel("bits a feature point, all bytes counted", fontsize=10, color=MUTED)
    figure.savefig(path)


def chosen(results: Sequence[Measured]) -> list[Measured]:
    """The sources to draw: of text layer 3 where there is one, then whatever is left."""
    first: dict[str, Measured] = {}
    for measured in results:
        if measured.group not in first or "layer 3," in measured.title:
            first[measured.group] = measured
    kept = list(first.values())
    models = {measured.title.partition(",")[0] for measured in kept}
    for measured in results:
        model = measured.title.partition(",")[0]
        if measured.group == "bundled" and model not in models:
            kept.append(measured)
            models.add(model)
    return kept[:PANELS]


def _panel(axes: "Axes", measured: Measured) -> None:
    ends: list[tuple[float, Style]] = []
    for style in STYLES:
        line = codec_curve(measured, style.codec)
        if len(line) < 2:
            continue
        snrs, bits = _sampled(line)
        axes.plot(snrs, bits, style.dashes, color=style.colour, lw=style.width, clip_on=True)
        if len(bits) and snrs[-1] >= SNR_RANGE[1] - 1:
            ends.append((min(bits[-1], MAX_BITS), style))
    if measured.group == "cnn":
        snrs, bits = _sampled(codec_curve(measured, CHANNEL_TABLES))
        axes.plot(snrs, bits, ":", color=INK, lw=1.3)
        if len(bits):
            ends.append((bits[-1], Style(CHANNEL_TABLES, CHANNEL_TABLES, INK, 1.3)))
    _name_lines(axes, ends)
    for point in measured.points:
        inside = SNR_RANGE[0] < point.snr_db < SNR_RANGE[1] and point.bpfp < MAX_BITS
        if point.codec in MARKED and inside:
            axes.plot(point.snr_db, point.bpfp, "D", ms=5, color=INK)
            axes.annotate(
                MARKED[point.codec],
                (point.snr_db, point.bpfp),
                (-5, 5),
                textcoords="offset points",
                ha="right",
                fontsize=8,
                color=INK,
            )
    axes.set_title(measured.title, loc="left", fontsize=10.5, color=INK)
    axes.set_xlim(*SNR_RANGE)
    axes.set_ylim(0, MAX_BITS)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=MUTED)
    axes.grid(alpha=0.25)


def _sampled(line: Curve) -> tuple[list[float], list[float]]:
    """The curve at many SNRs within the panel."""
    if len(line) < 2:
        return [], []
    low, high = max(line[0][0], SNR_RANGE[0]), min(line[-1][0], SNR_RANGE[1])
    pairs = [(float(snr), bits_at(line, float(snr))) for snr in np.linspace(low, high, 60)]
    kept = [(snr, bits) for snr, bits in pairs if bits is not None]
    return [snr for snr, _ in kept], [bits for _, bits in kept]


def _name_lines(axes: "Axes", ends: list[tuple[float, Style]]) -> None:
    """Names to the right of the lines' ends, moved apart where they would overlap."""
    heights = list[float]()
    for bits, _ in sorted(ends, key=lambda end: end[0]):
        heights.append(max(bits, heights[-1] + LINE_GAP) if heights else bits)
    excess = max(heights[-1] - MAX_BITS, 0.0) if heights else 0.0
    for height, (_, style) in zip(heights, sorted(ends, key=lambda end: end[0]), strict=True):
        axes.annotate(
            style.label,
            (SNR_RANGE[1], height - excess),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=style.colour,
            fontweight="bold" if style.codec == OURS else "normal",
            annotation_clip=False,
        )
