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
from featurewire_bench.measured import Measured
from featurewire_bench.own_codec import OURS, TRELLIS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS, ACROSS = 6, 3
INK, MUTED = "#222222", "#666666"
LEAST_SNR, MOST_SNR, MAX_BITS = 0.0, 25.0, 6.0
LINE_GAP = 0.36  # bits between the names of two lines


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
    Style(CHANNEL_TABLES, "table a channel", INK, 1.3, ":"),
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
    # Up to where our line goes in every panel, so that lines end at the right edge.
    right = min([MOST_SNR, *(codec_curve(measured, OURS)[-1][0] for measured in shown)])
    right = max(5 * round(right / 5), LEAST_SNR + 5)
    for axes, measured in zip(panels, shown, strict=False):
        _panel(axes, measured, right)
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


def _panel(axes: "Axes", measured: Measured, right: float) -> None:
    axes.set_xlim(LEAST_SNR, right)
    axes.set_ylim(0, MAX_BITS)
    ends: list[tuple[float, Style]] = []
    for style in STYLES:
        if style.codec == CHANNEL_TABLES and measured.group != "cnn":
            continue  # hardly to be told from the other tables
        snrs, bits = _sampled(codec_curve(measured, style.codec), right)
        if not bits:
            continue
        axes.plot(snrs, bits, style.dashes, color=style.colour, lw=style.width)
        if snrs[-1] > right - 3:
            ends.append((min(bits[-1], MAX_BITS), style))
        else:
            _name(axes, style, snrs[-1], bits[-1])
    _name_side_by_side(axes, ends, right)
    for point in measured.points:
        inside = LEAST_SNR < point.snr_db < right and point.bpfp < MAX_BITS
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
    axes.set_xticks(np.arange(LEAST_SNR, right + 0.1, 5))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=MUTED)
    axes.grid(alpha=0.25)


def _sampled(line: Curve, right: float) -> tuple[list[float], list[float]]:
    """The curve at many SNRs within the panel."""
    if len(line) < 2:
        return [], []
    low, high = max(line[0][0], LEAST_SNR), min(line[-1][0], right)
    pairs = [(float(snr), bits_at(line, float(snr))) for snr in np.linspace(low, high, 60)]
    kept = [(snr, bits) for snr, bits in pairs if bits is not None]
    return [snr for snr, _ in kept], [bits for _, bits in kept]


def _name_side_by_side(axes: "Axes", ends: list[tuple[float, Style]], right: float) -> None:
    """Names to the right of the panel, moved apart where they would overlap."""
    heights = list[float]()
    for bits, _ in sorted(ends, key=lambda end: end[0]):
        heights.append(max(bits, heights[-1] + LINE_GAP) if heights else bits)
    excess = max(heights[-1] - MAX_BITS, 0.0) if heights else 0.0
    for height, (_, style) in zip(heights, sorted(ends, key=lambda end: end[0]), strict=True):
        _name(axes, style, right, height - excess)


def _name(axes: "Axes", style: Style, snr_db: float, bits: float) -> None:
    axes.annotate(
        style.label,
        (snr_db, bits),
        (5, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=style.colour,
        fontweight="bold" if style.codec == OURS else "normal",
        annotation_clip=False,
    )
