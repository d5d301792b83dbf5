"""The demo, end to end: a server process, the emulated link, six tasks, a table and files."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

TASKS = {
    ("tiny-llama3", "generation"),
    ("tiny-llama3", "next-token loss"),
    ("tiny-dinov2", "classification"),
    ("tiny-dinov2", "segmentation"),
    ("tiny-dinov2", "depth"),
    ("tiny-sd3", "text to image"),
}
ROW = {"model", "task", "split", "float16_bytes", "sent_bytes", "bpfp", "metric"}
ROW |= {"unsplit", "split_value", "ms"}
STAGES = {"head", "encode", "network", "decode", "tail", "total", "float16_total"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A short run's table and its folder."""
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, "-c", "from featurewire_bench.cli import main; main()", "demo"]
    options = ["--samples", "2", "--out", str(out), "--rate-mbit", "50", "--rtt-ms", "10"]
    environment = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(
        [*command, *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, out


def test_json_holds_one_measured_row_for_each_task(demo: tuple[str, Path]) -> None:
    content = json.loads((demo[1] / "demo.json").read_text())
    rows = content["rows"]
    assert {(row["model"], row["task"]) for row in rows} == TASKS
    assert len(rows) == 6
    for row in rows:
        assert row.keys() == ROW
        assert row["ms"].keys() == STAGES
        assert all(math.isfinite(ms) and ms >= 0 for ms in row["ms"].values())
        assert row["ms"]["total"] > content["link"]["rtt_ms"]
        assert 0 < row["sent_bytes"] < row["float16_bytes"]
        assert 0 < row["bpfp"] < 16
        assert math.isfinite(row["unsplit"])
        assert math.isfinite(row["split_value"])


def test_splitting_leaves_the_metrics_about_where_they_were(demo: tuple[str, Path]) -> None:
    for row in json.loads((demo[1] / "demo.json").read_text())["rows"]:
        assert row["split_value"] == pytest.approx(row["unsplit"], rel=0.15), row["task"]


def test_the_table_shows_every_task_and_every_figure(demo: tuple[str, Path]) -> None:
    table, out = demo
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= 120
    for row in json.loads((out / "demo.json").read_text())["rows"]:
        assert row["task"] in table
        assert row["split"] in table
        assert f"{row['bpfp']:.2f}" in table
        assert f"{row['split_value']:.4g}" in table


def test_pictures_lie_beside_it(demo: tuple[str, Path]) -> None:
    for name in ("chart.png", "segmentation.png", "image.png"):
        assert (demo[1] / name).read_bytes().startswith(b"\x89PNG")
