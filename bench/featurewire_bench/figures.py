"""Charts of what was measured: runs and points in, PNG files out. Needs matplotlib, an extra.

Colours are Okabe and Ito's, told apart by colour-blind readers too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featurewire_bench.account import Run
from featurewire_bench.errors import MissingExtraError
from featurewire_bench.table import bytes_text, ms_text, times_text, way_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STAGES = ("head", "encode", "network", "decode", "tail")
STAGE_COLOURS = ("#0072B2", "#56B4E9", "#D55E00", "#F0E442", "#009E73")
OURS, PLAIN = "#0072B2", "#BBBBBB"
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DPI = 150


def new_figure(width: float, height: float) -> "Figure":
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
    figure = new_figure(11, 1.0 + 0.95 * len(pairs))
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


def sweep_chart(runs: Sequence[Run], path: Path) -> None:
    """Total time over the link's rate, a panel for each task, a line for each way to send."""
    tasks = list(dict.fromkeys((run.model, run.task) for run in runs))
    figure, panels = _panels(len(tasks))
    for axes, (model, task) in zip(panels, tasks, strict=True):
        mine = [run for run in runs if (run.model, run.task) == (model, task)]
        ways = list(dict.fromkeys(_way_name(run) for run in mine))
        for colour, way in zip(LINE_COLOURS * len(ways), ways, strict=False):
            line = sorted((run.rate_mbit, run.ms.total) for run in mine if _way_name(run) == way)
            axes.plot(*zip(*line, strict=True), marker="o", ms=4, color=colour, label=way)
        axes.set_xscale("log")
        rates = sorted({run.rate_mbit for run in mine})
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_title(f"{model}: {task}", loc="left", fontsize=10)
    _label(figure, panels, "link, Mbit/s", "total, ms")
    figure.savefig(path)


def _way_name(run: Run) -> str:
    return f"{way_text(run.codec, run.snr_db)}, {run.rtt_ms:g} ms"


def _panels(count: int) -> "tuple[Figure, list[Axes]]":
    across = min(3, count)
    down = -(-count // across)
    figure = new_figure(1.0 + 3.6 * across, 0.9 + 2.9 * down)
    grid = figure.subplots(down, across, squeeze=False).flatten().tolist()
    for axes in grid:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid[:count]


def _label(figure: "Figure", panels: "Sequence[Axes]", x: str, y: str) -> None:
    figure.supxlabel(x, fontsize=10)
    figure.supylabel(y, fontsize=10)
    lines = {
        label: line
        for axes in panels
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        lines.values(), lines.keys(), loc="outside upper center", ncols=4, frameon=False, fontsize=9
    )
