"""A half that one GPU cannot hold goes over several, block by block, and computes the same."""

from __future__ import annotations

import pytest
import torch
from accelerate.hooks import remove_hook_from_module
from featurewire_models import Features, PlacementError, load_model, load_tail, spread, weights
from transformers import LlamaConfig, LlamaForCausalLM

LAYERS, WIDTH = 6, 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=128,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        vocab_size=97,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = tmp_path_factory.mktemp("spread")
    LlamaForCausalLM(config).save_pretrained(model)
    return model


def blocks_bytes(count: int, folder) -> int:
    network = load_model(folder).language_model
    return count * sum(tensor.nbytes for tensor in network.model.layers[0].parameters())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_blocks_fill_one_gpu_after_the_other_and_none_is_cut(folder):
    whole = weights.skeleton(LlamaForCausalLM, load_model(folder).language_model.config)
    room = {0: blocks_bytes(4, folder), 1: blocks_bytes(9, folder)}
    device_of = spread.spread(whole, torch.float32, room)
    places = {name: device_of(name).index for name in whole.state_dict()}
    for number in range(LAYERS):
        assert len({places[name] for name in places if f"layers.{number}." in name}) == 1
    assert places["model.embed_tokens.weight"] == 0
    assert places["model.norm.weight"] == places["lm_head.weight"] == 1
    by_device = [
        sum(t.nbytes for n, t in whole.state_dict().items() if places[n] == gpu) for gpu in (0, 1)
    ]
    assert all(0 < taken <= room[gpu] for gpu, taken in enumerate(by_device))


def test_what_all_gpus_together_cannot_hold_is_refused_with_both_sizes(folder):
    whole = weights.skeleton(LlamaForCausalLM, load_model(folder).language_model.config)
    with pytest.raises(PlacementError, match=r"weights take 0\.0 GiB in float32, and the 2 GPUs"):
        spread.spread(whole, torch.float32, {0: 100_000, 1: 100_000})


def test_a_half_that_one_gpu_holds_stays_on_it(folder, monkeypatch):
    monkeypatch.setattr(spread, "free_bytes", lambda: {0: 1 << 30, 1: 1 << 30})
    monkeypatch.setattr(spread, "spread", None)  # is not asked
    tail = weights.skeleton(LlamaForCausalLM, load_model(folder).language_model.config)
    placement = weights.Placement(torch.float32, torch.device("cpu"), spreads=True)
    weights.fill(tail, weights.shared(load_model(folder).language_model), placement)
    assert {tensor.device.type for tensor in tail.parameters()} == {"cpu"}


def test_what_goes_from_one_device_to_the_next_follows_the_weights(folder):
    """The second half of the blocks lies on the meta device, where only shapes are computed."""
    whole = load_model(folder)
    model = whole.language_model.model
    for part in (*model.layers[3:], model.norm, whole.language_model.lm_head):
        part.to("meta")
    tail = whole.tail("layers.1")
    network = tail.language_model
    remove_hook_from_module(network)  # the one that brings the outputs back to the first device
    cache = tail.new_cache()
    for tokens in (5, 1):
        logits = tail(Features({"hidden": torch.randn(1, tokens, WIDTH)}), cache=cache).logits
        assert logits.shape == (1, tokens, 97)
    devices = [layer.keys.device.type for layer in cache.states.layers]
    assert devices == ["cpu", "cpu", "meta", "meta", "meta"]
    assert cache.length == 6


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA GPUs")
@pytest.mark.parametrize("split", ["layers.0", "layers.2"])
def test_a_tail_over_two_gpus_gives_what_one_gives(folder, split, monkeypatch):
    whole = load_model(folder, device="cuda:0")
    features = whole.head(split)({"input_ids": torch.arange(20)[None]})
    expected = whole.tail(split)(features).logits
    room = {0: blocks_bytes(3, folder), 1: blocks_bytes(9, folder)}
    monkeypatch.setattr(spread, "free_bytes", lambda: room)
    tail = load_tail(folder, split, device="auto")
    assert len({tensor.device for tensor in tail.language_model.parameters()}) == 2
    assert torch.equal(tail(features).logits.cpu(), expected.cpu())
    view = load_model(folder, device="auto").tail(split)
    assert torch.equal(view(features).logits.cpu(), expected.cpu())
