"""A half reads its own tensors and no others; weights that do not fit are refused."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from featurewire_models import WeightsError, checkpoint, load_head, load_model, load_tail
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    LlamaConfig,
    LlamaForCausalLM,
)

LAYERS = 4


def llama(**more) -> LlamaForCausalLM:
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        vocab_size=97,
        bos_token_id=1,
        eos_token_id=2,
        **more,
    )
    return LlamaForCausalLM(config)


@pytest.fixture
def read(monkeypatch):
    """The names of the tensors that were read from files, as they are read."""
    names: list[str] = []
    opened = checkpoint.safe_open

    class Recording:
        def __init__(self, *arguments, **options):
            self.file = opened(*arguments, **options).__enter__()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.__exit__(None, None, None)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def get_tensor(self, name):
            names.append(name)
            return self.file.get_tensor(name)

    monkeypatch.setattr(checkpoint, "safe_open", Recording)
    return names


@pytest.mark.parametrize("shard", ["10KB", "1GB"])
@pytest.mark.parametrize("split", range(LAYERS + 1))
def test_each_half_reads_only_its_own_tensors(tmp_path, read, shard, split):
    llama().save_pretrained(tmp_path, max_shard_size=shard)
    load_head(tmp_path, f"layers.{split}")
    head = set(read)
    assert head == {name for name in head if "embed_tokens" in name or layer_of(name) < split}
    read.clear()
    load_tail(tmp_path, f"layers.{split}")
    tail = set(read)
    assert not head & tail
    assert head | tail == set(llama().state_dict())
    assert len(read) == len(tail)


def layer_of(name: str) -> int:
    return int(name.split(".")[2]) if ".layers." in name else LAYERS


def test_a_tail_with_tied_weights_reads_the_embedding_in_place_of_lm_head(tmp_path, read):
    llama(tie_word_embeddings=True).save_pretrained(tmp_path)
    load_tail(tmp_path, "layers.4")
    assert sorted(read) == ["model.embed_tokens.weight", "model.norm.weight"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_tied_matrix_is_in_memory_once(tmp_path, dtype):
    llama(tie_word_embeddings=True).save_pretrained(tmp_path)
    network = load_model(tmp_path, dtype=dtype).language_model
    assert network.lm_head.weight.data_ptr() == network.model.embed_tokens.weight.data_ptr()


def test_large_tensors_are_converted_in_pieces_to_the_same_numbers(tmp_path, monkeypatch):
    llama().save_pretrained(tmp_path)
    whole = load_model(tmp_path, dtype="bfloat16").language_model.state_dict()
    monkeypatch.setattr(checkpoint, "PIECE_BYTES", 1000)
    for name, tensor in load_model(tmp_path, dtype="bfloat16").language_model.state_dict().items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, whole[name]), name


def test_a_missing_shard_matters_to_its_own_half_alone(tmp_path):
    llama().save_pretrained(tmp_path, max_shard_size="10KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    shard = index["model.layers.3.mlp.up_proj.weight"]
    (tmp_path / shard).unlink()
    load_head(tmp_path, "layers.1")
    with pytest.raises(WeightsError, match=f"weight file {shard} is missing"):
        load_tail(tmp_path, "layers.1")


def test_a_missing_tensor_is_named(tmp_path):
    llama().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.2.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"lack the tensor model\.layers\.2\.mlp\.up_proj"):
        load_tail(tmp_path, "layers.2")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path):
    llama().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.norm.weight"] = torch.ones(31)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"model\.norm\.weight has shape \[31\].*\[32\]"):
        load_tail(tmp_path, "layers.2")


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x00" * 8])
def test_a_damaged_file_is_refused(tmp_path, content):
    llama().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        load_head(tmp_path, "layers.2")


@pytest.mark.parametrize("file", ["../model.safetensors", "/etc/passwd", "."])
def test_an_index_that_leads_elsewhere_is_refused(tmp_path, file):
    llama().save_pretrained(tmp_path, max_shard_size="10KB")
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = dict.fromkeys(content["weight_map"], file)
    index.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match=r"no file name|is missing"):
        load_head(tmp_path, "layers.2")


def test_weights_saved_by_a_class_with_another_head_load(tmp_path):
    config = BertConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=97,
    )
    BertForMaskedLM(config).save_pretrained(tmp_path)
    reference = BertModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    inputs = {"input_ids": torch.randint(0, 97, (1, 5))}
    with torch.no_grad():
        expected = reference(**inputs).last_hidden_state
    halves = load_head(tmp_path, task="tokens"), load_tail(tmp_path, task="tokens")
    assert torch.equal(halves[1](halves[0](inputs)).last_hidden_state, expected)


def test_fused_swiglu_weights_of_the_original_files_are_taken_apart(tmp_path):
    config = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=7,
        use_swiglu_ffn=True,
    )
    Dinov2Model(config).save_pretrained(tmp_path)
    assert any("mlp.weights_in" in name for name in load_file(tmp_path / "model.safetensors"))
    reference = Dinov2Model.from_pretrained(tmp_path).eval()
    pixels = torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        expected = reference(pixels).last_hidden_state
    assert torch.equal(load_model(tmp_path)({"pixel_values": pixels}).last_hidden_state, expected)


def test_features_can_carry_gradients_through_a_tail(tmp_path):
    llama().save_pretrained(tmp_path)
    head, tail = load_head(tmp_path, "layers.2"), load_tail(tmp_path, "layers.2")
    features = head({"input_ids": torch.tensor([[3, 4, 5]])})
    assert not features.tensors["hidden"].requires_grad
    hidden = features.tensors["hidden"].requires_grad_()
    (gradient,) = torch.autograd.grad(tail(features).logits.sum(), hidden)
    assert gradient.shape == hidden.shape
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("model", "task"), [("tiny-llama3", "generation"), ("tiny-dinov2", "depth")]
)
def test_models_loaded_in_many_threads_leave_what_others_compute_in_alone(model, task):
    """Their weights are float16: transformers would make that the whole process's element type."""
    seen, done = set(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(torch.zeros(1).dtype)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: load_head(model, task=task), range(12)))
    done.set()
    watcher.join()
    assert seen == {torch.float32}
    assert torch.get_default_dtype() == torch.float32
