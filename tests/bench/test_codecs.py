"""featurewire-bench codecs: a run writes its report, its figures and its picture."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from featurewire_bench import cli
from featurewire_bench.baselines import ANCHOR, DT_UFC_NAMES
from featurewire_bench.bundled import demo_workloads
from featurewire_bench.codecs import (
    BUNDLED_TASKS,
    GROUPS,
    CodecsConfig,
    run_codecs,
    step_count,
    task_networks,
)
from featurewire_bench.codecs_report import (
    BEGIN,
    END,
    against_dt_ufc,
    detail,
    overview,
    reached,
    replace_measured,
)
from featurewire_bench.errors import SampleError
from featurewire_bench.measured import Measured, Point
from featurewire_bench.own_codec import OURS
from featurewire_bench.rate_distortion_figure import chosen
from featurewire_bench.workload import Inference
from PIL import Image


def measured(group: str, title: str, ratio: float = 0.5) -> Measured:
    points = [
        Point(codec, snr, snr, snr + 0.5, bits * snr, 0.9, 50.0, 40.0)
        for codec, bits in ((OURS, 0.1 * ratio), (ANCHOR, 0.1))
        for snr in (5.0, 10.0, 15.0, 20.0)
    ]
    figure = [(float(snr), 0.04 * snr) for snr in range(5, 21)]
    return Measured(
        *(group, title, "a note", "accuracy, %", 1.0, 1000, 0.5, figure, 2.0, {"a": "klt"}, points)
    )


def test_a_run_writes_report_figures_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(10, 8, 8, 4)).repeat(2, 1).repeat(2, 2).reshape(10, 256, 4)
    np.savez(tmp_path / "latents.npz", a=coarse[:8], b=coarse[8:])
    results = tmp_path / "RESULTS.md"
    results.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    command = ["codecs", "--quick", "--sources", "latents", "--latents"]
    command += [str(tmp_path / "latents.npz"), "--out", str(tmp_path / "out"), "--json"]
    monkeypatch.setattr(sys, "argv", ["featurewire-bench", *command, "--results", str(results)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code in (0, None)
    content = json.loads(capsys.readouterr().out)
    assert content == json.loads((tmp_path / "out" / "codecs.json").read_text())
    assert [source["group"] for source in content["sources"]] == ["latents"]
    report = (tmp_path / "out" / "codecs.md").read_text()
    assert "| featurewire |" in report
    assert str(tmp_path) not in report  # a command's paths are its files' names
    assert results.read_text() == f"before\n{BEGIN}\n\n{report}\n{END}\nafter\n"
    with Image.open(tmp_path / "out" / "codecs.png") as image:
        assert image.width > 400


def test_the_progress_bar_ends_when_the_run_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "latents.npz", a=rng.normal(size=(5, 64, 4)), b=rng.normal(size=(1, 64, 4)))
    config = CodecsConfig(["latents"], latents=tmp_path / "latents.npz", snrs_db=(10.0, 20.0))
    told = list[str]()
    (result,) = run_codecs(config, told.append)
    assert len(told) == step_count(config)
    assert len([w for w in demo_workloads(1) if isinstance(w, Inference)]) == BUNDLED_TASKS
    assert {point.codec for point in result.points} >= set(DT_UFC_NAMES)


def test_text_and_latents_have_dt_ufc_networks_of_their_own() -> None:
    folders = [task_networks(group, CodecsConfig()) for group in GROUPS]
    names = [folder.name if folder else None for folder in folders]
    assert names == ["text", "text", "text", "latents", None, None]
    for folder in folders:
        assert not folder or list(folder.glob("*.safetensors"))


def test_a_folder_of_ones_own_replaces_the_shipped_task_specific_networks(tmp_path: Path) -> None:
    (tmp_path / "cnn").mkdir()
    config = CodecsConfig(networks=tmp_path)
    assert task_networks("cnn", config) == tmp_path / "cnn"
    assert task_networks("latents", config) is None


def test_an_unknown_source_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["codecs", "--sources", "cnn,audio", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["featurewire-bench", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "there is no 'audio'" in capsys.readouterr().err


def test_the_overview_has_the_mean_of_a_group_and_a_column_for_each_bundled_task() -> None:
    results = [measured("text-across", "layer 2", 0.4), measured("text-across", "layer 3", 0.6)]
    results.append(measured("bundled", "tiny, depth"))
    lines = overview(results).splitlines()
    assert lines[0] == "| codec | text-across | tiny, depth |"
    assert lines[2] == f"| {OURS} | 0.75 | 0.75 |"  # (0.4 + 0.6) / 2 of 1.5 bits
    assert lines[3] == f"| {ANCHOR} | 1.50 | 1.50 |"
    assert lines[4] == "| Gaussian figure | 0.60 | 0.60 |"


def test_a_source_is_told_in_full() -> None:
    text = detail(measured("cnn", "CNN"))
    assert f"| {OURS} | 0.50 | 0.75 | 1.00 | - | -50.0 % | 0.75 / 15.0 / 0.9 | 50 / 40 |" in text
    assert "mode: klt" in text


def test_dt_ufc_is_compared_at_its_own_bits_and_at_its_own_snr() -> None:
    result = measured("cnn", "CNN")
    point = replace(result.points[0], codec="DT-UFC", snr_db=10.0, bpfp=1.0)
    text = against_dt_ufc([replace(result, points=[*result.points, point])])
    # ours: half a bit at 10 dB, one bit at 20 dB
    assert "| CNN | DT-UFC | 1.00 | 10.0 | -50.0 % | +10.0 | - | - | -60.0 % |" in text
    other = replace(result, points=[*result.points, replace(point, bpfp=0.75)])
    text = against_dt_ufc([replace(result, points=[*result.points, point]), other])
    assert "| mean of all points | DT-UFC |  |  | -41.7 % | +7.5 | - | - | -53.3 % |" in text


def test_what_is_reached_is_told_beside_what_was_asked() -> None:
    result = measured("cnn", "CNN")
    off = [replace(p, snr_db=p.snr_db + 0.25) if p.codec == OURS else p for p in result.points]
    lines = reached([result, replace(result, points=off)]).splitlines()
    assert lines[2] == f"| cnn | {OURS} | +0.12 | +0.12 | +0.12 | - |"
    assert against_dt_ufc([result]) == ""


def test_results_without_markers_are_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("text")
    with pytest.raises(SampleError, match="has no lines"):
        replace_measured(file, "tables")
    assert file.read_text() == "text"


def test_the_picture_shows_each_group_and_each_model_once() -> None:
    results = [measured("text-across", f"MiniLM layer {n}, prose") for n in (2, 3, 4)]
    results += [measured("bundled", title) for title in ("llama, loss", "dino, a", "dino, b")]
    titles = [result.title for result in chosen(results)]
    assert titles == ["MiniLM layer 3, prose", "llama, loss", "dino, a"]
