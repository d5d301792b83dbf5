"""A token of each of several sequences in one pass of the tail gives what single passes give."""

from __future__ import annotations

import copy

import pytest
import torch
from featurewire_models import InputError, load_model
from featurewire_models.features import Features
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 97,
    "max_position_embeddings": 32,
}
LENGTHS = (3, 17, 1, 8)


def tail_of(config, folder, split):
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return load_model(str(folder)).tail(split)


def filled(tail, lengths):
    caches = [tail.new_cache() for _ in lengths]
    for cache, length in zip(caches, lengths, strict=True):
        tail(Features({"hidden": torch.randn(1, length, 32)}), cache=cache)
    return caches


def tokens(number):
    return [Features({"hidden": torch.randn(1, 1, 32)}) for _ in range(number)]


@pytest.mark.parametrize("split", ["layers.0", "layers.2", "layers.3"])
@torch.inference_mode()
def test_sequences_of_all_lengths_step_together_as_they_would_alone(tmp_path, split):
    tail = tail_of(LlamaConfig(**SIZES), tmp_path, split)
    together = filled(tail, LENGTHS)
    alone = copy.deepcopy(together)
    for _ in range(5):
        features = tokens(len(LENGTHS))
        expected = [
            tail(feature, cache=cache).logits[0, -1]
            for feature, cache in zip(features, alone, strict=True)
        ]
        found = tail.steps(features, together)
        torch.testing.assert_close(torch.stack(found), torch.stack(expected))
    assert [cache.length for cache in together] == [length + 5 for length in LENGTHS]


@torch.inference_mode()
def test_a_step_is_one_pass_and_the_sequences_can_part_again(tmp_path, monkeypatch):
    tail = tail_of(LlamaConfig(**SIZES), tmp_path, "layers.1")
    caches = filled(tail, LENGTHS)
    alone = copy.deepcopy(caches)
    passes = []
    forward = type(tail.language_model.model).forward
    monkeypatch.setattr(
        type(tail.language_model.model),
        "forward",
        lambda self, **given: passes.append(given) or forward(self, **given),
    )
    features = tokens(len(LENGTHS))
    tail.steps(features, caches)
    assert len(passes) == 1
    for pair in ((2, 0), (3, 1)):  # other company in the next step
        found = tail.steps([features[row] for row in pair], [caches[row] for row in pair])
        for row, logits in zip(pair, found, strict=True):
            for _ in range(2):
                expected = tail(features[row], cache=alone[row]).logits[0, -1]
            torch.testing.assert_close(logits, expected)


@torch.inference_mode()
def test_blocks_with_a_sliding_window_step_one_by_one(tmp_path):
    tail = tail_of(MistralConfig(**SIZES, sliding_window=5), tmp_path, "layers.1")
    together = filled(tail, LENGTHS)
    alone, features = copy.deepcopy(together), tokens(len(LENGTHS))
    found = tail.steps(features, together)
    for feature, cache, logits in zip(features, alone, found, strict=True):
        assert torch.equal(logits, tail(feature, cache=cache).logits[0, -1])


@torch.inference_mode()
def test_a_sequence_at_the_end_of_its_context_is_refused(tmp_path):
    tail = tail_of(LlamaConfig(**SIZES), tmp_path, "layers.1")
    with pytest.raises(InputError, match="33 tokens are more than the 32"):
        tail.steps(tokens(2), filled(tail, (4, 32)))
