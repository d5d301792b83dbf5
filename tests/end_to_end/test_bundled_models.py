"""The bundled models over a real socket: exact as float32, and small and close as a bitstream."""

import numpy as np
import pytest
import torch
from featurewire_client import SplitClient
from featurewire_models import describe, load_model, load_processor
from PIL import Image

CASES = [
    ("tiny-llama3", "generation"),
    ("tiny-dinov2", "classification"),
    ("tiny-dinov2", "segmentation"),
    ("tiny-dinov2", "depth"),
    ("tiny-sd3", "text-to-image"),
]
OUTPUT = {
    "generation": "logits",
    "classification": "logits",
    "segmentation": "logits",
    "depth": "predicted_depth",
    "text-to-image": "images",
}


def inputs_of(model: str, task: str) -> dict[str, torch.Tensor]:
    processor = load_processor(model, task)
    if task == "generation":
        return processor.inputs("Return the number of items in the list.")
    if task == "text-to-image":
        return processor.inputs("a red seven on a blue background", seed=1, steps=4, guidance=3.0)
    shades = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return processor.inputs(Image.fromarray(shades))


@pytest.mark.parametrize(("model", "task"), CASES)
async def test_float32_over_the_wire_is_the_unsplit_model_bit_for_bit(serve, model, task):
    inputs = inputs_of(model, task)
    with torch.inference_mode():
        expected = getattr(load_model(model, task=task)(inputs), OUTPUT[task])
    info = describe(model)
    async with serve(model) as server:
        for split in (info.splits[0], info.default_split, info.splits[-1]):
            address = server.address
            async with SplitClient(address, model, split, task, codec="float32") as client:
                result = await client.infer(inputs)
            assert torch.equal(getattr(result.output, OUTPUT[task]), expected), split


@pytest.mark.parametrize(("model", "task"), CASES)
async def test_the_shipped_profile_takes_fewer_bits_than_none(serve, model, task):
    info = describe(model)
    assert info.profile_folder(info.default_split, task) is not None
    inputs = inputs_of(model, task)
    samples = info.path / "samples"
    if task == "generation":
        inputs = load_processor(model, task).inputs((samples / "passage.txt").read_text())
    elif task != "text-to-image":
        inputs = load_processor(model, task).inputs(next(samples.rglob("*.png")))
    bpfp = []
    async with serve(model) as server:
        for profile in ("server", None):
            address = server.address
            async with SplitClient(address, model, task=task, profile=profile) as client:
                bpfp.append((await client.infer(inputs)).stats.bpfp)
    assert bpfp[0] < bpfp[1] < 16
