"""What a model is called, what it is, and one plain sentence for everything that it is not."""

from __future__ import annotations

import json

import pytest
import torch
from featurewire_models import (
    ArchitectureError,
    InputError,
    ModelError,
    PlacementError,
    SourceError,
    SplitError,
    TaskError,
    describe,
    load_head,
    load_model,
    load_tail,
    outputs_to_tensors,
    source,
    tensors_to_outputs,
)
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, LlamaConfig, LlamaForCausalLM


@pytest.fixture
def folder(tmp_path):
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        vocab_size=97,
        max_position_embeddings=16,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = tmp_path / "my-llama"
    LlamaForCausalLM(config).save_pretrained(model)
    return model


def test_a_model_is_described_from_its_configuration_alone(folder):
    (folder / "model.safetensors").write_bytes(b"")
    info = describe(folder)
    assert (info.name, info.path, info.family) == ("my-llama", folder, "llama")
    assert info.splits == ("layers.0", "layers.1", "layers.2", "layers.3", "layers.4")
    assert (info.default_split, info.default_task) == ("layers.2", "generation")
    assert info.tasks == ("generation",)
    assert info.context == 16


def test_the_revision_changes_with_weights_and_configuration_and_nothing_else(folder, tmp_path):
    revision = describe(folder).revision
    folder.rename(tmp_path / "elsewhere")
    folder = tmp_path / "elsewhere"
    (folder / "README.md").write_text("A card.")
    (folder / "profiles" / "layers.2").mkdir(parents=True)
    assert describe(folder).revision == revision
    tensors = load_file(folder / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, folder / "model.safetensors")
    changed = describe(folder).revision
    assert changed != revision
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    assert describe(folder).revision not in (revision, changed)


def test_a_large_file_costs_no_more_to_fingerprint(tmp_path):
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write((2).to_bytes(8, "little") + b"{}")
        file.truncate(1 << 40)
    assert len(source.fingerprint(tmp_path)) == 64


def test_another_revision_is_refused(folder):
    revision = describe(folder).revision
    assert load_head(folder, "layers.1", revision=revision).info.revision == revision
    with pytest.raises(SourceError, match=f"has revision {revision}, not 0123"):
        describe(folder, revision="0123")


def test_profiles_are_found_by_split_point_and_task(folder):
    info = describe(folder)
    assert info.profile_folder("layers.2", "generation") is None
    profiles = folder / "profiles" / "layers.2" / "generation"
    profiles.mkdir(parents=True)
    assert info.profile_folder("layers.2", "generation") == profiles
    assert info.profile_folder("layers.1", "generation") is None


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("layers.5", "no split point 'layers.5'; it can be split at layers.0 to layers.4"),
        ("layers.-1", "layers.0 to layers.4"),
        ("latents", "layers.0 to layers.4"),
    ],
)
def test_a_split_beyond_the_model_is_refused_with_the_range(folder, split, message):
    for load in (load_head, load_tail):
        with pytest.raises(SplitError, match=message):
            load(folder, split)
    with pytest.raises(SplitError, match=message):
        load_model(folder).tail(split)


def test_an_unknown_task_dtype_or_device_is_refused(folder):
    with pytest.raises(TaskError, match="no task 'depth'; it has generation"):
        load_head(folder, task="depth")
    with pytest.raises(PlacementError, match="'int3' is not one of float32, float16, bfloat16"):
        load_head(folder, dtype="int3")
    with pytest.raises(PlacementError, match="'teapot' cannot be used"):
        load_head(folder, device="teapot")


def test_an_unknown_name_is_refused_without_a_network():
    with pytest.raises(SourceError, match="no model 'tiny-lama'"):
        describe("tiny-lama")
    with pytest.raises(SourceError, match="nobody/nothing is no bundled model"):
        describe("nobody/nothing")


def test_a_revision_may_follow_the_name(folder, tmp_path):
    revision = describe(folder).revision
    assert describe(f"{folder}@{revision}").name == "my-llama"
    with pytest.raises(SourceError, match=f"has revision {revision}, not 0123"):
        load_head(f"{folder}@0123")
    assert load_head(f"{folder}@0123", revision=revision).info.revision == revision
    folder.rename(tmp_path / "llama@home")
    assert describe(tmp_path / "llama@home").revision == revision
    assert describe(f"{tmp_path / 'llama@home'}@{revision}").name == "llama@home"


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ArchitectureError, match=r"config\.json does not exist"):
        describe(tmp_path)
    for content, message in (("{", "not valid JSON"), ("[]", "not an object")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ArchitectureError, match=message):
            describe(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(ArchitectureError, match="no configuration that transformers knows"):
        describe(tmp_path)
    quantised = '{"model_type": "llama", "quantization_config": {"quant_method": "fp8"}}'
    (tmp_path / "config.json").write_text(quantised)
    with pytest.raises(ArchitectureError, match=r"of quantised weights \(fp8\)"):
        describe(tmp_path)
    GPT2Config(architectures=["GPT2LMHeadModel"]).save_pretrained(tmp_path)
    with pytest.raises(ArchitectureError, match=r"is a gpt2 model.*the families are llama"):
        describe(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ArchitectureError, match="is a FluxPipeline"):
        describe(tmp_path)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "The inputs are nothing; they must be input_ids"),
        ({"pixels": torch.zeros(1)}, "The inputs are pixels"),
        ({"input_ids": torch.zeros(1, 17, dtype=torch.long)}, "17 tokens are more than the 16"),
        ({"input_ids": torch.zeros(5, dtype=torch.long)}, r"integers of shape \[batch, tokens\]"),
        ({"input_ids": torch.zeros(1, 4)}, "not torch.float32"),
        ({"input_ids": torch.full((1, 4), 97)}, "tokens 0 to 96"),
        (
            {"input_ids": torch.ones(1, 4).long(), "attention_mask": torch.ones(1, 3)},
            r"attention_mask must have shape \[1, 4\]",
        ),
    ],
)
def test_inputs_that_the_model_cannot_take_are_refused(folder, inputs, message):
    with pytest.raises(InputError, match=message):
        load_head(folder, "layers.1")(inputs)


def test_a_cache_counts_towards_the_context(folder):
    head = load_head(folder, "layers.1")
    cache = head.new_cache()
    head({"input_ids": torch.ones(1, 16).long()}, cache=cache)
    with pytest.raises(InputError, match="17 tokens are more than the 16"):
        head({"input_ids": torch.ones(1, 1).long()}, cache=cache)
    assert cache.length == 16


def test_outputs_cross_as_named_tensors(folder):
    model = load_model(folder)
    outputs = model({"input_ids": torch.ones(1, 3).long()}, cache=model.new_cache())
    tensors = outputs_to_tensors(outputs)
    assert list(tensors) == ["logits"]
    back = tensors_to_outputs(tensors)
    assert torch.equal(back.logits, outputs.logits)
    with pytest.raises(AttributeError, match="logits"):
        _ = back.depth


def test_every_error_is_a_model_error():
    leaves = ModelError.__subclasses__()
    assert {leaf.__name__ for leaf in leaves} == {
        "SourceError",
        "ArchitectureError",
        "WeightsError",
        "SplitError",
        "TaskError",
        "PlacementError",
        "InputError",
    }
