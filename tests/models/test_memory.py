"""What loading and running half a large model takes at most: its own weights, and little more."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from featurewire_bench.random_models import LlamaShape, large_llama

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SHAPE = LlamaShape(blocks=16, channels=2048, words=128256, tied=True)
MORE, MORE_BYTES = 0.1, 300e6  # beyond the weights, whichever is larger

MEASURE = """
import json, sys, torch
from featurewire_models import Features, load_head, load_tail

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))

def run(model, half, split, dtype):
    with torch.inference_mode():
        part = (load_head if half == "head" else load_tail)(model, split, dtype=dtype)
        if half == "head":
            part({"input_ids": torch.arange(24)[None]})
        else:
            part(Features({"hidden": torch.randn(1, 24, part.language_model.config.hidden_size)}))
    return part.language_model

model, half, split, dtype = sys.argv[1:]
run("tiny-llama3", half, "layers.4", dtype)  # imports, kernels, buffers of threads
open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
before = status("VmRSS")
module = run(model, half, split, dtype)
for tensor in module.parameters():  # a prompt uses few rows of an embedding
    tensor.view(torch.uint8).max()
peak = status("VmHWM") - before
weights = {tensor.data_ptr(): tensor.nbytes for tensor in module.parameters()}
print(json.dumps({"peak": peak, "weights": sum(weights.values())}))
"""


@pytest.fixture(scope="module")
def large() -> Iterator[Path]:
    """A saved model of over 2 GB with a shard for each block and a tied embedding."""
    with TemporaryDirectory(prefix="featurewire-") as folder:
        model = large_llama(Path(folder), SHAPE)
        shards = sorted(model.glob("*.safetensors"))
        assert len(shards) == SHAPE.blocks + 1
        assert sum(shard.stat().st_size for shard in shards) > 2e9
        yield model


@pytest.mark.parametrize(
    ("half", "split", "dtype", "part"),
    [
        ("head", "layers.5", "bfloat16", (0.4, 0.5)),  # five blocks and the embedding
        ("tail", "layers.5", "bfloat16", (0.7, 0.8)),  # eleven and the embedding's matrix
        (
            "tail",
            "layers.12",
            "float32",
            (0.8, 0.9),
        ),  # four and the matrix, all of it twice as large
    ],
)
def test_a_half_takes_its_own_weights_and_little_more(large, half, split, dtype, part):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(large), half, split, dtype],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = json.loads(done.stdout)
    files = sum(shard.stat().st_size for shard in large.glob("*.safetensors"))
    assert part[0] <= round(found["weights"] / files, 3) <= part[1]
    assert found["peak"] <= found["weights"] + max(MORE * found["weights"], MORE_BYTES), found
    assert found["peak"] > 0.9 * found["weights"], found  # it was measured with all of them in use
