"""Llama and its like: tail(head(x)) is the unsplit class's answer, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from featurewire_models import InputError, load_head, load_model, load_tail
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

LAYERS, VOCABULARY = 3, 97
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CONFIGS = {
    "llama3": LlamaConfig(**SIZES, rope_parameters=ROPE),
    "llama3.2": LlamaConfig(
        **SIZES, head_dim=8, rope_parameters=ROPE | {"factor": 32.0}, tie_word_embeddings=True
    ),
    "mistral": MistralConfig(**SIZES, sliding_window=5),
    "qwen2": Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=5, max_window_layers=1),
    "qwen3": Qwen3Config(**SIZES, head_dim=16, tie_word_embeddings=True),
    "phi3": Phi3Config(**SIZES),
    "olmo2": Olmo2Config(**SIZES),
}
SPLITS = [f"layers.{count}" for count in range(LAYERS + 1)]


@pytest.fixture(scope="module", params=CONFIGS)
def saved(request, tmp_path_factory):
    """The unsplit class itself, read back from the folder, and the folder."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp(request.param)
    sharded = request.param in ("llama3", "qwen3")
    model = AutoModelForCausalLM.from_config(CONFIGS[request.param])
    model.save_pretrained(folder, max_shard_size="20KB" if sharded else "1GB")
    assert (folder / "model.safetensors.index.json").exists() == sharded
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), folder


def prompt(batch: int, tokens: int) -> torch.Tensor:
    return torch.randint(3, VOCABULARY, (batch, tokens))


def padded(side: str) -> dict[str, torch.Tensor]:
    ids = prompt(3, 9)
    mask = torch.ones_like(ids)
    for row, pad in enumerate((0, 2, 5)):
        if pad:
            mask[row, slice(0, pad) if side == "left" else slice(-pad, None)] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


def cases() -> dict[str, dict[str, torch.Tensor]]:
    left = padded("left")
    return {
        "one": {"input_ids": prompt(1, 11)},
        "several": {"input_ids": prompt(3, 7)},
        "left": left,
        "right": padded("right"),
        "positions": left | {"position_ids": (left["attention_mask"].cumsum(1) - 1).clamp(min=0)},
    }


@torch.no_grad()
def reference(model, inputs, **more):
    return model(**inputs, **more).logits


@pytest.mark.parametrize("split", SPLITS)
def test_halves_equal_the_unsplit_class(saved, split):
    model, folder = saved
    head, tail = load_head(folder, split), load_tail(folder, split)
    for name, inputs in cases().items():
        features = head(inputs)
        batch, tokens = inputs["input_ids"].shape
        assert features.tensors["hidden"].shape == (batch, tokens, 32)
        assert torch.equal(tail(features).logits, reference(model, inputs)), name


def test_whole_model_and_its_views_equal_the_unsplit_class(saved):
    model, folder = saved
    whole = load_model(folder)
    inputs = padded("left")
    expected = reference(model, inputs)
    assert torch.equal(whole(inputs).logits, expected)
    for split in SPLITS:
        assert torch.equal(whole.tail(split)(whole.head(split)(inputs)).logits, expected)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("masked", [False, True])
def test_steps_with_caches_equal_the_same_steps_unsplit(saved, split, masked):
    model, folder = saved
    whole = load_model(folder)
    head, tail = whole.head(split), whole.tail(split)
    caches = head.new_cache(), tail.new_cache()
    inputs = padded("left") if masked else {"input_ids": prompt(2, 6)}
    expected = None
    for _ in range(4):
        past = None if expected is None else expected.past_key_values
        with torch.no_grad():
            expected = model(**inputs, past_key_values=past, use_cache=True)
        outputs = tail(head(inputs, cache=caches[0]), cache=caches[1])
        assert torch.equal(outputs.logits, expected.logits)
        following = expected.logits[:, -1:].argmax(-1)
        inputs = {"input_ids": following} | (
            {"attention_mask": torch.nn.functional.pad(inputs["attention_mask"], (0, 1), value=1)}
            if masked
            else {}
        )
    assert caches[0].length == caches[1].length == (12 if masked else 9)


def test_only_the_wanted_logits_are_computed(saved):
    model, folder = saved
    inputs = {"input_ids": prompt(2, 8)}
    head, tail = load_head(folder, "layers.1"), load_tail(folder, "layers.1")
    last = tail(head({**inputs, "logits_to_keep": torch.tensor(1)})).logits
    assert torch.equal(last, reference(model, inputs, logits_to_keep=1))
    chosen = torch.tensor([2, 5])
    some = tail(head({**inputs, "logits_to_keep": chosen})).logits
    assert torch.equal(some, reference(model, inputs, logits_to_keep=chosen))


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kept", [None, 0, 1, 6, 14])
def test_the_outputs_of_spans_joined_are_those_of_the_whole_sequence(saved, split, kept):
    model, folder = saved
    head, tail = load_head(folder, split), load_tail(folder, split)
    caches, ids = (head.new_cache(), tail.new_cache()), prompt(1, 14)
    beside = {} if kept is None else {"logits_to_keep": torch.tensor(kept)}
    assert head.takes_spans({"input_ids": ids, **beside})
    spans = []
    for part in torch.split(ids, 4, dim=1):
        features = head({"input_ids": part}, cache=caches[0])
        outputs = tail.span(replace(features, uncoded=beside), caches[1], 14)
        spans += [outputs["logits"]] if outputs else []
    assert len(spans) == {None: 4, 0: 4, 1: 1, 6: 2, 14: 4}[kept]
    expected = reference(model, {"input_ids": ids}, logits_to_keep=kept or 0)
    torch.testing.assert_close(torch.cat(spans, dim=1), expected, rtol=1e-4, atol=1e-5)


def test_a_span_takes_what_belongs_to_a_whole_sequence_only(saved):
    _, folder = saved
    head, tail = load_head(folder, "layers.1"), load_tail(folder, "layers.1")
    features = head({"input_ids": prompt(1, 4)})
    for name, tensor, said in (
        ("labels", prompt(1, 4), "hidden and maybe logits_to_keep"),
        ("logits_to_keep", torch.tensor([1, 2]), "one integer where tokens come in spans"),
        ("logits_to_keep", torch.tensor(10), "beyond the 9 tokens"),
    ):
        with pytest.raises(InputError, match=said):
            tail.span(replace(features, uncoded={name: tensor}), tail.new_cache(), 9)
    with pytest.raises(InputError, match="65 tokens are more than the 64"):
        tail.span(features, tail.new_cache(), 65)


@pytest.mark.parametrize("split", SPLITS)
def test_the_loss_of_labels_is_the_unsplit_classs(saved, split):
    reference, folder = saved
    ids = prompt(2, 9)
    labels = ids.masked_fill(torch.arange(9) < 3, -100)
    with torch.no_grad():
        expected = reference(input_ids=ids, labels=labels).loss
        head, tail = load_head(folder, split), load_tail(folder, split)
        outputs = tail(head({"input_ids": ids, "labels": labels.int()}))
    assert torch.equal(outputs.loss, expected)


def test_labels_of_another_shape_are_refused(saved):
    _, folder = saved
    with pytest.raises(InputError, match=r"labels must be integers of shape \[2, 9\]"):
        load_model(folder)({"input_ids": prompt(2, 9), "labels": prompt(2, 8)})


def test_views_share_the_weights(saved):
    _, folder = saved
    whole = load_model(folder)
    tail = whole.tail("layers.2")
    mine = (
        tail.language_model.model.layers[0].input_layernorm
        if hasattr(tail.language_model.model.layers[0], "input_layernorm")
        else tail.language_model.model.layers[0].post_attention_layernorm
    )
    theirs = whole.language_model.get_parameter(
        "model.layers.2."
        + (
            "input_layernorm"
            if hasattr(tail.language_model.model.layers[0], "input_layernorm")
            else "post_attention_layernorm"
        )
        + ".weight"
    )
    assert mine.weight is theirs


def test_features_without_options_carry_nothing_uncoded(saved):
    _, folder = saved
    features = load_head(Path(folder), "layers.1")({"input_ids": prompt(1, 4)})
    assert dict(features.uncoded) == {}
    assert dict(features.grids) == {}


def test_half_precision_is_what_the_class_computes_in_it(saved):
    _, folder = saved
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    inputs = padded("left")
    head = load_head(folder, "layers.2", dtype="bfloat16")
    tail = load_tail(folder, "layers.2", dtype="bfloat16")
    assert torch.equal(tail(head(inputs)).logits, reference(model, inputs))
