"""Charts and pictures are written, and say which package is missing."""

import sys
from pathlib import Path

import numpy as np
import pytest
from featurewire_bench import figures
from featurewire_bench.account import Run, Stages
from featurewire_bench.errors import MissingExtraError
from featurewire_bench.pictures import Segmented, overlay, segmentation_picture, side_by_side
from PIL import Image


def run(codec: str, rate_mbit: float = 20.0, sent: float = 1000.0) -> Run:
    return Run(
        model="tiny",
        task="depth",
        split="layers.4",
        codec=codec,
        snr_db=25.0 if codec == "featurewire" else None,
        rate_mbit=rate_mbit,
        rtt_ms=40.0,
        inferences=3,
        float16_bytes=4000.0,
        sent_bytes=sent,
        bpfp=4.0,
        metric="RMSE, m",
        value=0.3,
        ms=Stages(head=3, encode=1, network=45, decode=1, tail=5, total=55),
    )


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


def test_charts_are_images(tmp_path: Path) -> None:
    figures.chart([(run("featurewire"), run("float16", sent=4000.0))] * 2, tmp_path / "chart.png")
    runs = [run(codec, rate) for codec in ("featurewire", "float16") for rate in (5.0, 50.0)]
    figures.sweep_chart(runs, tmp_path / "sweep.png")
    for name in ("chart", "sweep"):
        width, height = size(tmp_path / f"{name}.png")
        assert width > 400
        assert height > 200


def test_pictures_are_images(tmp_path: Path) -> None:
    image, labels = np.zeros((8, 8, 3), np.uint8), np.eye(8, dtype=np.uint8)
    scenes = [Segmented(image, labels, labels, labels)] * 2
    segmentation_picture(scenes, {1: "one"}, tmp_path / "segmentation.png")
    side_by_side([("a red one", image, image)] * 3, "caption", tmp_path / "image.png")
    assert size(tmp_path / "segmentation.png") > (400, 200)
    assert size(tmp_path / "image.png") > (400, 200)


def test_an_overlay_tints_classes_and_leaves_background_and_unlabelled_pixels() -> None:
    image = np.full((1, 3, 3), 200, np.uint8)
    tinted = overlay(image, np.array([[0, 1, 255]]))
    assert (tinted[0, 0] == 200).all()
    assert (tinted[0, 2] == 200).all()
    assert (tinted[0, 1] != 200).any()


def test_without_matplotlib_the_command_to_install_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'featurewire\[bench\]'"):
        figures.require_matplotlib()
