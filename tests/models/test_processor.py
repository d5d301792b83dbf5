"""The person's side: text and images in, labels, maps, images and embeddings out."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from featurewire_models import InputError, load_head, load_processor, load_tail
from featurewire_models.dinov2 import Dinov2ForSemanticSegmentation
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2ForImageClassification,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessorPil,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import DepthEstimatorOutput, SemanticSegmenterOutput

WORDS = ["<pad>", "<unk>", "</s>", "once", "upon", "a", "time", "there", "was", "cat"]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": len(WORDS),
    "max_position_embeddings": 8,
}


def save_tokenizer(folder) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="</s>"
    ).save_pretrained(folder)


@pytest.fixture
def language_model(tmp_path):
    config = LlamaConfig(**SIZES, pad_token_id=0, bos_token_id=2, eos_token_id=2)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    return tmp_path


def test_a_prompt_becomes_token_ids_and_back(language_model):
    processor = load_processor(language_model)
    inputs = processor.inputs("once upon a time")
    assert inputs["input_ids"].tolist() == [[3, 4, 5, 6]]
    assert list(inputs) == ["input_ids"]
    assert processor.decode([3, 4, 2]) == "once upon"
    assert processor.end_ids == {2}
    outputs = load_tail(language_model)(load_head(language_model)(inputs))
    assert processor.result(outputs) == processor.decode([int(outputs.logits[0, -1].argmax())])


def test_prompts_of_a_language_model_are_padded_before_their_start(language_model):
    inputs = load_processor(language_model).inputs(["once upon a time", "a cat"])
    assert inputs["input_ids"].tolist() == [[3, 4, 5, 6], [0, 0, 5, 9]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize("raw", ["", "  \n", [], ["a cat", ""]])
def test_an_empty_prompt_is_refused(language_model, raw):
    with pytest.raises(InputError, match="empty"):
        load_processor(language_model).inputs(raw)


@pytest.mark.parametrize("raw", ["a c\udcffat", ["a cat", "a c\udcffat"]])
def test_a_prompt_with_half_a_surrogate_pair_is_refused(language_model, raw):
    with pytest.raises(InputError, match=r"UTF-8: character 4 is '\\udcff'"):
        load_processor(language_model).inputs(raw)


def test_a_prompt_over_the_context_is_refused(language_model):
    with pytest.raises(InputError, match=r"has 9 tokens; .*context is 8"):
        load_processor(language_model).inputs("a cat " * 4 + "was")


def test_sentences_of_an_encoder_are_padded_after_their_end(tmp_path):
    BertModel(BertConfig(**SIZES)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    processor = load_processor(tmp_path)
    inputs = processor.inputs(["once upon a time", "a cat"])
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    vectors = processor.result(load_tail(tmp_path)(load_head(tmp_path)(inputs)))
    assert [vector.shape for vector in vectors] == [(32,), (32,)]
    alone = processor.result(load_tail(tmp_path)(load_head(tmp_path)(processor.inputs("a cat"))))
    np.testing.assert_allclose(alone, vectors[1], atol=1e-5)


@pytest.fixture(scope="module")
def vision_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vision")
    torch.manual_seed(1)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 7,
    }
    labels = {0: "zero", 1: "one", 2: "two"}
    Dinov2ForImageClassification(Dinov2Config(**sizes, id2label=labels)).save_pretrained(folder)
    segmentation = Dinov2ForSemanticSegmentation(Dinov2Config(**sizes, id2label=labels))
    segmentation.save_pretrained(folder / "segmentation")
    backbone = Dinov2Config(**sizes, out_indices=[1, 2, 3, 4], reshape_hidden_states=False)
    depth = DPTConfig(
        backbone_config=backbone,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=16,
        reassemble_factors=[4, 2, 1, 0.5],
    )
    DPTForDepthEstimation(depth).save_pretrained(folder / "depth")
    BitImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    ).save_pretrained(folder)
    return folder


def answer(folder, task: str, **options):
    processor = load_processor(folder, task)
    image = Image.fromarray(np.arange(40 * 50 * 3, dtype=np.uint8).reshape(40, 50, 3))
    inputs = processor.inputs(image)
    assert inputs["pixel_values"].shape == (1, 3, 28, 28)
    outputs = load_tail(folder, task=task)(load_head(folder, task=task)(inputs))
    return processor.result(outputs, **options)


def test_an_image_gets_a_label_a_class_map_and_a_depth_map(vision_model):
    label = answer(vision_model, "classification")
    assert label["label"] in ("zero", "one", "two")
    assert 1 / 3 < label["score"] < 1
    assert answer(vision_model, "segmentation").shape == (4, 4)
    stretched = answer(vision_model, "segmentation", size=(40, 50))
    assert stretched.shape == (40, 50)
    assert set(np.unique(stretched)) <= {0, 1, 2}
    assert answer(vision_model, "depth", size=(40, 50)).shape == (40, 50)


def test_what_is_no_image_is_refused(vision_model, tmp_path):
    processor = load_processor(vision_model)
    (tmp_path / "a.png").write_text("no image")
    for raw in (tmp_path / "a.png", tmp_path / "absent.png"):
        with pytest.raises(InputError, match="is no image that can be read"):
            processor.inputs(raw)
    with pytest.raises(InputError, match="not a int"):
        processor.inputs(3)
    with pytest.raises(InputError, match="empty"):
        processor.inputs([])


@pytest.mark.parametrize("task", ["classification", "segmentation", "depth"])
def test_a_map_is_of_the_whole_image_and_a_label_of_what_the_processor_cuts_out(vision_model, task):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :8] = pixels[:, -8:] = 255  # beyond the square in the middle
    pixels[:, 30:50] = 128
    values = load_processor(vision_model, task).inputs(Image.fromarray(pixels))["pixel_values"]
    assert values.shape == (1, 3, 28, 28)
    dark, middle = float(values.min()), float(values[0, 0, 14, 14])
    edges = [float(values[0, 0, 14, column]) for column in (0, -1)]
    if task == "classification":
        assert edges == [dark, dark]
    else:
        assert min(edges) > middle > dark


def test_a_map_is_of_whole_patches_wherever_the_processor_leaves_a_rest(tmp_path, vision_model):
    """Patches drop a rest of pixels, which moved what lies behind."""
    folder = shutil.copytree(vision_model, tmp_path / "model")
    BitImageProcessorPil(do_resize=False, do_center_crop=False).save_pretrained(folder)
    held = load_processor(folder, "segmentation")
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, 48:] = 255
    values = held.inputs(Image.fromarray(pixels))["pixel_values"]
    assert values.shape == (1, 3, 42, 63)
    bright = values[:, :1]
    found = held.result(SemanticSegmenterOutput(logits=torch.cat([-bright, bright], 1)), (40, 60))
    assert found.shape == (40, 60)
    assert abs(int(found[20].argmax()) - 48) <= 1


def test_what_a_processor_padded_is_cut_off_a_map(tmp_path, vision_model):
    """As DPT's for NYU does: to whole patches, half of it on each side."""
    folder = shutil.copytree(vision_model, tmp_path / "model")
    processor = DPTImageProcessorPil(do_resize=False, do_pad=True, size_divisor=14)
    processor.save_pretrained(folder / "depth")
    held = load_processor(folder, "depth")
    values = held.inputs(Image.new("RGB", (40, 30)))["pixel_values"]
    assert values.shape == (1, 3, 42, 42)
    rows = torch.arange(42.0)[:, None].expand(42, 42)
    depth = held.result(DepthEstimatorOutput(predicted_depth=rows[None]), size=(30, 40))
    assert depth.shape == (30, 40)
    assert depth[:, 0].tolist() == list(range(6, 36))
