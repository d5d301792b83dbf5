"""Sweeps: which ways are crossed, and one line a run in the CSV."""

import csv
from pathlib import Path

import pytest
from featurewire_bench.account import Run, Stages
from featurewire_bench.errors import LinkError
from featurewire_bench.measurement import Way
from featurewire_bench.sweep import ways, write_csv

RUN = Run(
    model="tiny",
    task="depth",
    split="layers.4",
    codec="float16",
    snr_db=None,
    rate_mbit=20.0,
    rtt_ms=40.0,
    inferences=3,
    float16_bytes=4000.0,
    sent_bytes=4020.0,
    bpfp=16.08,
    metric="RMSE, m",
    value=0.3,
    ms=Stages(head=3, encode=1, network=45, decode=1, tail=5, total=55),
)


def test_only_a_codec_with_a_quality_knob_is_run_at_every_setting() -> None:
    assert ways(["featurewire", "dt-ufc", "float16"], [15.0, 25.0]) == [
        Way("featurewire", 15.0),
        Way("featurewire", 25.0),
        Way("dt-ufc", 15.0),
        Way("dt-ufc", 25.0),
        Way("float16", 15.0),
    ]
    assert Way("float16", 15.0).asked_snr_db is None


def test_a_codec_that_the_wire_lacks_is_refused() -> None:
    with pytest.raises(LinkError, match="'gzip'; it must be one of featurewire, dt-ufc, float16"):
        ways(["gzip"], [15.0])


def test_stages_become_columns(tmp_path: Path) -> None:
    write_csv(tmp_path / "sweep.csv", [RUN, RUN])
    with (tmp_path / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert rows[0]["network_ms"] == "45"
    assert rows[0]["bpfp"] == "16.08"
    assert rows[0]["snr_db"] == ""
