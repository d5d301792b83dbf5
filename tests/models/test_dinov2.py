"""DINOv2 and its task heads: tail(head(x)) is the unsplit class's answer, bit for bit."""

from __future__ import annotations

import shutil

import pytest
import torch
from featurewire_models import Features, InputError, describe, load_head, load_model, load_tail
from featurewire_models.dinov2 import Dinov2ForSemanticSegmentation
from transformers import (
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    DPTConfig,
    DPTForDepthEstimation,
)

LAYERS, HIDDEN, PATCH = 4, 32, 7
SIZES = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": PATCH,
    "num_labels": 5,
    "layerscale_value": 0.5,
}
LEVELS = {"depth": [1, 2, 3, 4], "depth-shallow": [1, 3]}
SPLITS = [f"layers.{count}" for count in range(LAYERS + 1)]


def depth_model(levels: list[int]) -> DPTForDepthEstimation:
    backbone = Dinov2Config(**SIZES, out_indices=levels, reshape_hidden_states=False)
    return DPTForDepthEstimation(
        DPTConfig(
            backbone_config=backbone,
            neck_hidden_sizes=[8, 8, 8, 8][: len(levels)],
            fusion_hidden_size=16,
            reassemble_factors=[4, 2, 1, 0.5][: len(levels)],
        )
    )


BUILDERS = {
    "features": lambda: Dinov2Model(Dinov2Config(**SIZES)),
    "classification": lambda: Dinov2ForImageClassification(Dinov2Config(**SIZES)),
    "segmentation": lambda: Dinov2ForSemanticSegmentation(Dinov2Config(**SIZES)),
    "classification-swiglu": lambda: Dinov2ForImageClassification(
        Dinov2Config(**SIZES, use_swiglu_ffn=True)
    ),
    **{name: lambda levels=levels: depth_model(levels) for name, levels in LEVELS.items()},
}


@pytest.fixture(scope="module", params=BUILDERS)
def saved(request, tmp_path_factory):
    """The unsplit class itself, read back from the folder, and the folder."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp(request.param)
    model = BUILDERS[request.param]()
    shard = "20KB" if request.param == "classification" else "1GB"
    model.save_pretrained(folder, max_shard_size=shard)
    return type(model).from_pretrained(folder).eval(), folder


def images() -> list[torch.Tensor]:
    return [torch.randn(1, 3, 28, 28), torch.randn(3, 3, 28, 42), torch.randn(2, 3, 35, 30)]


def assert_same(outputs, expected) -> None:
    assert set(outputs.keys()) == set(expected.keys())
    for name, tensor in expected.items():
        assert torch.equal(outputs[name], tensor), name


@pytest.mark.parametrize("split", SPLITS)
def test_halves_equal_the_unsplit_class(saved, split):
    model, folder = saved
    head, tail = load_head(folder, split), load_tail(folder, split)
    for pixels in images():
        with torch.no_grad():
            expected = model(pixel_values=pixels)
        assert_same(tail(head({"pixel_values": pixels})), expected)


def test_whole_model_and_its_views_equal_the_unsplit_class(saved):
    model, folder = saved
    whole, pixels = load_model(folder), torch.randn(2, 3, 28, 35)
    with torch.no_grad():
        expected = model(pixel_values=pixels)
    assert_same(whole({"pixel_values": pixels}), expected)
    for split in SPLITS:
        assert_same(whole.tail(split)(whole.head(split)({"pixel_values": pixels})), expected)


@pytest.mark.parametrize(
    ("levels", "split", "names"),
    [
        ([1, 2, 3, 4], "layers.0", ["hidden"]),
        ([1, 2, 3, 4], "layers.2", ["level_1", "level_2"]),
        ([1, 2, 3, 4], "layers.4", ["level_1", "level_2", "level_3", "level_4"]),
        ([1, 3], "layers.2", ["hidden", "level_1"]),
        ([1, 3], "layers.4", ["level_1", "level_3"]),
    ],
)
def test_a_depth_head_gets_each_level_within_the_head(tmp_path, levels, split, names):
    depth_model(levels).save_pretrained(tmp_path)
    features = load_head(tmp_path, split)({"pixel_values": torch.randn(2, 3, 28, 42)})
    assert sorted(features.tensors) == names
    for name in names:
        assert features.tensors[name].shape == (2, 1 + 4 * 6, HIDDEN)
        assert features.grids[name] == (4, 6)


def test_one_folder_holds_a_network_for_each_task(tmp_path):
    BUILDERS["classification"]().save_pretrained(tmp_path)
    BUILDERS["segmentation"]().save_pretrained(tmp_path / "segmentation")
    BUILDERS["depth"]().save_pretrained(tmp_path / "depth")
    info = describe(tmp_path)
    assert info.tasks == ("classification", "segmentation", "depth")
    assert info.default_task == "classification"
    pixels = {"pixel_values": torch.randn(1, 3, 28, 28)}
    outputs = load_tail(tmp_path, task="segmentation")(
        load_head(tmp_path, task="segmentation")(pixels)
    )
    assert outputs.logits.shape == (1, 5, 4, 4)
    outputs = load_tail(tmp_path, task="depth")(load_head(tmp_path, task="depth")(pixels))
    assert outputs.predicted_depth.dim() == 3
    revision = info.revision
    shutil.rmtree(tmp_path / "depth")
    assert describe(tmp_path).revision != revision


def test_features_that_do_not_fit_their_grid_are_refused(tmp_path):
    BUILDERS["features"]().save_pretrained(tmp_path)
    tail = load_tail(tmp_path, "layers.1")
    tokens = torch.randn(1, 17, HIDDEN)
    with pytest.raises(InputError, match="17 tokens"):
        tail(Features({"hidden": tokens}, {"hidden": (4, 5)}))
    with pytest.raises(InputError, match="share one grid"):
        tail(Features({"hidden": tokens}))
    with pytest.raises(InputError, match=r"shape \[batch, tokens, 32\]"):
        tail(Features({"hidden": tokens[..., :8]}, {"hidden": (4, 4)}))
    with pytest.raises(InputError, match="needs a feature called hidden"):
        tail(Features({"other": tokens}, {"other": (4, 4)}))


@pytest.mark.parametrize(
    "pixels",
    [torch.zeros(3, 28, 28), torch.zeros(1, 1, 28, 28), torch.zeros(1, 3, 5, 28)],
)
def test_pixels_of_another_shape_are_refused(tmp_path, pixels):
    BUILDERS["features"]().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="pixel_values must"):
        load_head(tmp_path, "layers.1")({"pixel_values": pixels})
