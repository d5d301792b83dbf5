"""ViT and DINOv3: tail(head(x)) is the unsplit class's answer, bit for bit."""

from __future__ import annotations

import pytest
import torch
from featurewire_models import Features, InputError, describe, load_head, load_model, load_tail
from transformers import (
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

LAYERS, HIDDEN, PATCH, SIDE = 3, 32, 7, 28
SIZES = {
    "hidden_size": HIDDEN,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}
MODELS = {
    "vit": lambda: ViTModel(ViTConfig(**SIZES)),
    "vit-classification": lambda: ViTForImageClassification(ViTConfig(**SIZES, num_labels=5)),
    "dinov3": lambda: DINOv3ViTModel(
        DINOv3ViTConfig(**SIZES, num_register_tokens=4, layerscale_value=0.5, key_bias=False)
    ),
    "dinov3-gated": lambda: DINOv3ViTModel(DINOv3ViTConfig(**SIZES, use_gated_mlp=True)),
}
REGISTERS = {"dinov3": 4}
SPLITS = [f"layers.{count}" for count in range(LAYERS + 1)]


@pytest.fixture(scope="module", params=MODELS)
def saved(request, tmp_path_factory):
    """The unsplit class itself, read back from the folder, and the folder."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models") / request.param
    model = MODELS[request.param]()
    for parameter in model.parameters():  # classes begin some with zeros
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder).eval(), folder


def images(folder) -> list[torch.Tensor]:
    """A plain ViT takes images of its own size alone."""
    own = [torch.randn(1, 3, SIDE, SIDE), torch.randn(3, 3, SIDE, SIDE)]
    return own if folder.name.startswith("vit") else [*own, torch.randn(2, 3, 35, 44)]


def assert_same(outputs, expected) -> None:
    assert set(outputs.keys()) == set(expected.keys())
    for name, tensor in expected.items():
        assert torch.equal(outputs[name], tensor), name


@pytest.mark.parametrize("split", SPLITS)
def test_halves_and_views_equal_the_unsplit_class(saved, split):
    model, folder = saved
    head, tail, whole = load_head(folder, split), load_tail(folder, split), load_model(folder)
    for pixels in images(folder):
        inputs = {"pixel_values": pixels}
        with torch.no_grad():
            expected = model(**inputs)
        features = head(inputs)
        grid = pixels.shape[2] // PATCH, pixels.shape[3] // PATCH
        tokens = 1 + REGISTERS.get(folder.name, 0) + grid[0] * grid[1]
        assert features.tensors["hidden"].shape == (len(pixels), tokens, HIDDEN)
        assert features.grids["hidden"] == grid
        assert_same(tail(features), expected)
        assert_same(whole(inputs), expected)
        assert_same(whole.tail(split)(whole.head(split)(inputs)), expected)


def test_halves_in_bfloat16_equal_the_unsplit_class_in_it(saved):
    kind, folder = type(saved[0]), saved[1]
    model = kind.from_pretrained(folder, dtype=torch.bfloat16).eval()
    pixels = images(folder)[-1]
    with torch.no_grad():
        expected = model(pixel_values=pixels)
    head, tail = (load(folder, "layers.1", dtype="bfloat16") for load in (load_head, load_tail))
    assert_same(tail(head({"pixel_values": pixels})), expected)


def test_what_it_is_and_what_it_takes(saved):
    _, folder = saved
    info = describe(folder)
    assert info.family == "vit"
    assert info.splits == tuple(SPLITS)
    assert info.tasks == ("classification" if "classification" in folder.name else "features",)


def test_an_image_of_another_size_is_refused_by_a_plain_vit(saved):
    _, folder = saved
    if not folder.name.startswith("vit"):
        pytest.skip("takes images of any size")
    with pytest.raises(InputError, match="takes images of 28 x 28 pixels, not 35 x 28"):
        load_head(folder)({"pixel_values": torch.randn(1, 3, 35, 28)})


def test_a_grid_that_the_tokens_do_not_fit_is_refused(saved):
    _, folder = saved
    features = Features({"hidden": torch.randn(1, 3, HIDDEN)}, {"hidden": (4, 4)})
    with pytest.raises(InputError, match=r"A grid of \(4, 4\) patches"):
        load_tail(folder)(features)
