"""What the README shows runs as it stands there, but for the server's address."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from featurewire_bench.process import ServerProcess
from PIL import Image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.S)
PROMPTED, BLOCKING, DEPTH, CODEC = EXAMPLES


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(["tiny-llama3", "tiny-dinov2"]) as process:
        yield process


def output_of(example: str, folder: Path, address: str = "") -> str:
    """What the example prints, run as a program of its own."""
    program = example.replace("127.0.0.1:50051", address) if address else example
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_example_is_twelve_lines_at_most():
    assert len([line for line in PROMPTED.splitlines() if line.strip()]) <= 12


def test_the_examples_with_and_without_async_print_the_same_text(server, tmp_path):
    text, account = output_of(PROMPTED, tmp_path, server.address).rsplit("\n", 2)[:2]
    assert re.fullmatch(r"\d+\.\d\d bits a feature, \d+ ms in all", account)
    assert text.strip()
    blocking, _ = output_of(BLOCKING, tmp_path, server.address).rsplit("\n", 2)[:2]
    assert blocking == text


def test_the_example_of_an_image_task_prints_the_maps_shape(server, tmp_path):
    shades = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(shades).save(tmp_path / "digit.png")
    assert output_of(DEPTH, tmp_path, server.address).startswith("(64, 64) sent ")


def test_the_codecs_example_prints_a_size_and_a_shape(tmp_path):
    size, shape = output_of(CODEC, tmp_path).split(" ", 1)
    assert 0 < int(size) < 2 * 512 * 64
    assert shape == "torch.Size([512, 64])\n"


def test_every_make_target_that_the_documents_name_exists():
    documents = README + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", documents, re.M))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"demo", "test"} <= named <= targets


def test_every_file_that_the_documents_link_to_is_there():
    for name in ("README.md", "CONTRIBUTING.md", "proto/README.md"):
        document = ROOT / name
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{name}: {link}"


def test_the_demos_table_has_a_line_for_each_of_the_six_tasks():
    table = README.split("Split inference over")[1].split("```")[0]
    tasks = ("generation", "next-token loss", "classification", "segmentation", "depth")
    for task in (*tasks, "text to image"):
        assert re.search(rf"^{task} +\d+\.\dx", table, re.M), task


def test_no_model_card_has_a_figure_left_out():
    for card in (ROOT / "models/featurewire_models/bundled").glob("*/README.md"):
        assert not re.search(r"@[A-Z]+@", card.read_text()), card
