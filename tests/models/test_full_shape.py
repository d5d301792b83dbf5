"""The three named models at full size, on the meta device: tensors have shapes and no memory.

Every split point of each is built by the code that reads weights. The shapes are those that
Llama-3-8B, DINOv2 ViT-g/14 and Stable Diffusion 3 medium have in arXiv 2506.16495.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from featurewire_models import Features, checkpoint, describe, load_head, load_model, load_tail, sd3
from torch import nn
from transformers import masking_utils

CONFIGS = Path(__file__).parent / "configs"
LLAMA, DINOV2 = CONFIGS / "Meta-Llama-3-8B-Instruct", CONFIGS / "dinov2-giant"
SD3 = CONFIGS / "stable-diffusion-3-medium-diffusers"
PLACED = {"dtype": "bfloat16", "device": "meta"}


class Weightless(checkpoint.Checkpoint):
    """The weights of a folder that has none: right in shape, in bfloat16, on the meta device."""

    def __init__(self, source: Any, folder: Any, whole: nn.Module, file: str = "") -> None:
        self.tensors = {name: tensor.bfloat16() for name, tensor in whole.state_dict().items()}

    def __call__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors


@pytest.fixture(autouse=True)
def _weightless(monkeypatch):
    for family in ("llama", "dinov2", "sd3_parts"):
        monkeypatch.setattr(f"featurewire_models.{family}.Checkpoint", Weightless)


def parameters(*modules: nn.Module) -> int:
    return sum(tensor.numel() for module in modules for tensor in module.parameters())


def shapes(features: Features) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in features.tensors.items()}


def test_every_split_point_of_llama_3_8b(monkeypatch):
    # whether several texts lie in a row is asked of positions, which are no numbers here
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda _: None)
    info, whole = describe(LLAMA), load_model(LLAMA, **PLACED)
    assert len(info.splits) == 33
    assert parameters(whole.language_model) == 8_030_261_248
    tokens = 259  # the longest of the paper's
    ids = {"input_ids": torch.arange(tokens)[None]}
    for split in info.splits:
        head, tail = whole.head(split), whole.tail(split)
        assert parameters(head.language_model, tail.language_model) == 8_030_261_248
        features = head(ids, cache=head.new_cache())
        assert shapes(features) == {"hidden": (1, tokens, 4096)}
        logits = tail(features, cache=tail.new_cache()).logits
        assert (logits.shape, logits.dtype) == ((1, tokens, 128256), torch.bfloat16)
        assert tail.cache_bytes(tokens) == 4096 * (32 - int(split[7:])) * tokens


IMAGES = {  # pixels; the paper's shape; the shape of the answer
    "classification": ((1, 3, 224, 224), (1, 257, 1536), {"logits": (1, 1000)}),
    "segmentation": ((2, 3, 518, 518), (2, 1370, 1536), {"logits": (2, 21, 37, 37)}),
    "depth": ((2, 3, 490, 644), (2, 1611, 1536), {"predicted_depth": (2, 576, 736)}),
}
LEVELS = (10, 20, 30, 40)


def test_dinov2_giant_is_as_large_as_published():
    info = describe(DINOV2)
    assert info.tasks == ("features", *IMAGES)
    assert len(info.splits) == 41
    assert parameters(load_model(DINOV2, "features", **PLACED).network) == 1_136_480_768


@pytest.mark.parametrize("task", IMAGES)
def test_every_split_point_of_dinov2_giant(task):
    pixels, shape, answer = IMAGES[task]
    whole = load_model(DINOV2, task, **PLACED)
    for split in describe(DINOV2).splits:
        head, tail = whole.head(split), whole.tail(split)
        features, depth = head({"pixel_values": torch.zeros(pixels)}), int(split[7:])
        names = ["hidden"]
        if task == "depth":
            names = [f"level_{level}" for level in LEVELS if level <= depth]
            names += [] if depth in LEVELS else ["hidden"]
        assert shapes(features) == dict.fromkeys(names, shape)
        assert set(features.grids.values()) == {(pixels[2] // 14, pixels[3] // 14)}
        assert parameters(head.network, tail.network) == parameters(whole.network)
        if depth % 20 == 0:  # shapes take their time too
            outputs = tail(features)
            assert {name: tuple(tensor.shape) for name, tensor in outputs.items()} == answer
    assert len(names) == (4 if task == "depth" else 1)  # 2 x 4 x 1611 x 1536, the paper's


@pytest.fixture
def prompt() -> dict[str, torch.Tensor]:
    """The tokens of a prompt and of an empty one, and settings of one step."""
    ids = {"input_ids": 77, "input_ids_2": 77, "input_ids_3": 256}
    tokens = {
        prefix + name: torch.ones(1, length).long()
        for prefix in ("", "negative_")
        for name, length in ids.items()
    }
    return tokens | {
        "seed": torch.tensor([0]),
        "num_inference_steps": torch.tensor(1),
        "guidance_scale": torch.tensor(7.0, dtype=torch.float64),
    }


@pytest.mark.parametrize("split", ["prompt", "latents"])
def test_both_split_points_of_stable_diffusion_3_medium(split, prompt, monkeypatch):
    # an image of bytes needs numbers, and so does the search for a step: here it ends as pixels
    monkeypatch.setattr(sd3, "_decode", sd3._pixels)
    monkeypatch.setattr(FlowMatchEulerDiscreteScheduler, "index_for_timestep", lambda *_: 0)
    features = load_head(SD3, split, **PLACED)(prompt)
    expected = {"latents": (1, 128 * 128, 16)}
    if split == "prompt":
        states = {"clip": (1, 77, 2048), "t5": (1, 256, 4096)}
        expected = states | {f"negative_{name}": shape for name, shape in states.items()}
    else:
        assert features.grids == {"latents": (128, 128)}
    assert shapes(features) == expected
    assert load_tail(SD3, split, **PLACED)(features).shape == (1, 3, 1024, 1024)
