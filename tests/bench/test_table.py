"""Tables: what the figures look like, and that 120 columns are enough."""

import io

from featurewire_bench.account import Row, RowStages
from featurewire_bench.table import WIDTH, bytes_text, demo_table, ms_text, times_text
from rich.console import Console


def test_bytes_keep_three_figures() -> None:
    sizes = (0, 999, 1000, 10_340, 999_400, 999_600, 1_210_000, 5_000_000_000)
    texts = ["0 B", "999 B", "1 kB", "10.3 kB", "999 kB", "1 MB", "1.21 MB", "5 GB"]
    assert [bytes_text(size) for size in sizes] == texts


def test_milliseconds_keep_a_decimal_below_a_hundred() -> None:
    assert [ms_text(ms) for ms in (0.04, 3.21, 99.94, 99.96, 2650.4)] == [
        "0.0",
        "3.2",
        "99.9",
        "100",
        "2650",
    ]


def test_a_gain_is_a_factor_and_a_loss_is_below_one() -> None:
    assert times_text(100, 25) == "4.0x"
    assert times_text(50, 100) == "0.5x"


def test_every_figure_of_a_wide_row_fits_into_the_table() -> None:
    stages = RowStages(3203.2, 142.1, 12010.4, 40.5, 220.6, 15650.7, float16_total=28000.8)
    rows = [
        Row(
            *("tiny-dinov2", "next-token loss", "layers.12", 131_072_000, 31_400_000, 13.41),
            *("perplexity, nats/token", 1234.5, 1235.5, stages),
        )
    ]
    output = io.StringIO()
    Console(file=output, width=WIDTH).print(demo_table(rows, "title", "note"))
    text = output.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= WIDTH
    for figure in ("tiny-dinov2", "next-token loss", "layers.12", "131 MB", "31.4 MB", "4.2x"):
        assert figure in text
    for figure in ("13.41", "1234", "3203", "142", "12010", "40.5", "221", "15651", "28001"):
        assert figure in text
