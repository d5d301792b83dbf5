"""Tables a person reads at a glance: rows in, rich tables out, made for 120 columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from featurewire_bench.account import Row, Run

if TYPE_CHECKING:
    from featurewire_bench.large import Large
    from featurewire_bench.measured import Measured

WIDTH = 120  # columns, where the output is no terminal


def console() -> Console:
    """stdout, at least wide enough for the tables unless a terminal is narrower."""
    screen = Console()
    return screen if screen.is_terminal else Console(width=max(WIDTH, screen.width))


def bytes_text(count: float) -> str:
    """`count` bytes in at most seven characters: 512 B, 10.3 kB, 1.21 MB (powers of 1000)."""
    if count < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.5 or unit == "GB":
            break
    return f"{count:.3g} {unit}" if count < 100 else f"{count:.0f} {unit}"


def ms_text(ms: float) -> str:
    """Milliseconds with one decimal below 100 and none above."""
    return f"{ms:.1f}" if ms < 99.95 else f"{ms:.0f}"


def times_text(before: float, after: float) -> str:
    """How many times less `after` is than `before`: 8.1x; below 1 it is more."""
    ratio = before / after if after else 0.0
    return f"{ratio:.1f}x" if ratio < 99.95 else f"{ratio:.0f}x"


def _table(title: str, caption: str | None = None, gap: int = 1) -> Table:
    return Table(
        title=title,
        caption=caption,
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, gap, 0, 0),
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        caption_style="dim",
    )


def demo_table(rows: Sequence[Row], title: str, caption: str) -> Table:
    """The demo's table, two lines a row: the figure above, its unit or its gain below."""
    table = _table(title, caption, gap=0)
    table.add_column("model\n[dim]task[/]", no_wrap=True)
    table.add_column("split\npoint", no_wrap=True)
    for heading in ("float16\nbytes", "bytes\nsent", "BPFP\n"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("metric\n[dim]unit[/]", no_wrap=True)
    for heading in ("\nunsplit", "\nsplit", " head\nms", "encode\nms", "netw.\nms", "decode\nms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("tail\nms", "total\nms", "float16\ntotal"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        ms = row.ms
        name, _, unit = row.metric.partition(", ")
        table.add_row(
            f"[bold]{row.model}[/]\n[dim]{row.task}[/]",
            row.split,
            bytes_text(row.float16_bytes),
            f"[bold]{bytes_text(row.sent_bytes)}[/]\n"
            f"[green]{times_text(row.float16_bytes, row.sent_bytes)}[/]",
            f"{row.bpfp:.2f}",
            f"{name}\n[dim]{unit}[/]",
            f"{row.unsplit:.4g}",
            f"[bold]{row.split_value:.4g}[/]",
            *(ms_text(v) for v in (ms.head, ms.encode, ms.network, ms.decode, ms.tail)),
            f"[bold]{ms_text(ms.total)}[/]",
            f"{ms_text(ms.float16_total)}\n[green]{times_text(ms.float16_total, ms.total)}[/]",
        )
    return table


def runs_table(runs: Sequence[Run], title: str) -> Table:
    """A sweep's runs, one line each."""
    table = _table(title)
    for heading in ("model", "task", "codec"):
        table.add_column(heading, no_wrap=True)
    for heading in ("Mbit/s", "rtt ms", "sent", "BPFP", "network", "total ms", "value"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for run in runs:
        table.add_row(
            run.model,
            run.task,
            way_text(run.codec, run.snr_db),
            f"{run.rate_mbit:g}",
            f"{run.rtt_ms:g}",
            bytes_text(run.sent_bytes),
            f"{run.bpfp:.2f}",
            ms_text(run.ms.network),
            ms_text(run.ms.total),
            f"{run.value:.4g}",
            run.metric.partition(",")[0],
        )
    return table


def large_table(found: "Large") -> Table:
    """The whole model and each way to split it, with what a token's time goes to."""
    config, shape = found.config, found.config.shape
    table = _table(
        f"{shape.blocks} blocks of {shape.channels} channels in {config.dtype} on {found.device}, "
        f"split at {config.split}",
        f"prompt of {config.prompt_tokens} tokens; {config.tokens} tokens generated; ms",
    )
    table.add_column("", no_wrap=True)
    for heading in ("prefill\nms", "tokens\na second", "prompt\nbytes", "token\nbytes"):
        table.add_column(heading, justify="right", no_wrap=True)
    stages = ("head", "encode", "network", "decode", "tail")
    for heading in stages:
        table.add_column(f"token\n{heading}", justify="right", no_wrap=True)
    for row in found.rows:
        cells = [row.way, ms_text(row.prefill_ms), f"{row.tokens_s:.3g}"]
        if row.token is not None:
            cells += [bytes_text(row.prompt_bytes), bytes_text(row.token_bytes)]
            cells += [f"{getattr(row.token, stage):.2f}" for stage in stages]
        table.add_row(*cells)
    return table


def way_text(codec: str, snr_db: float | None) -> str:
    """A codec and its setting, where it has one."""
    return codec if snr_db is None else f"{codec} {snr_db:g} dB"


def codecs_table(results: "Sequence[Measured]", title: str) -> Table:
    """Bits at 15 dB and BD-rate against a uniform step, a section a source, a line a codec."""
    from featurewire_bench.baselines import ANCHOR
    from featurewire_bench.codecs_report import REFERENCE_DB, codec_curve, codec_names
    from featurewire_bench.curves import bd_rate, bits_at

    table = _table(title)
    table.add_column("source", no_wrap=True)
    table.add_column("codec", no_wrap=True)
    for heading in ("bits at\n15 dB", "BD-rate\n%", "nearest\nSNR dB", "bits\n", "metric\n"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("encode\nM/s", "decode\nM/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for measured in results:
        anchor = codec_curve(measured, ANCHOR)
        table.add_section()
        for row, codec in enumerate(codec_names([measured])):
            line = codec_curve(measured, codec)
            bits, change = bits_at(line, REFERENCE_DB), bd_rate(line, anchor)
            points = [point for point in measured.points if point.codec == codec]
            nearest = min(points, key=lambda point: abs(point.snr_db - REFERENCE_DB))
            table.add_row(
                measured.title if row == 0 else "",
                codec,
                "" if bits is None else f"{bits:.2f}",
                "" if change is None or codec == ANCHOR else f"{change:+.0f}",
                f"{nearest.snr_db:.1f}",
                f"{nearest.bpfp:.2f}",
                "" if nearest.metric is None else f"{nearest.metric:.4g}",
                f"{nearest.encode_mfeatures_s:.3g}",
                f"{nearest.decode_mfeatures_s:.3g}",
            )
    return table
