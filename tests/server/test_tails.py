"""What a server holds: a model's weights once, whatever it serves of it."""

import pytest
from featurewire_server.config import ServerConfig
from featurewire_server.tails import Tails
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 97,
}


def held(tails: Tails) -> dict[int, int]:
    """Bytes of every tensor of all tails in memory, by its place there."""
    (served,) = tails.models.values()
    modules = (
        part
        for tail in served.tails.values()
        for part in vars(tail).values()
        if isinstance(part, nn.Module)
    )
    return {p.data_ptr(): p.nbytes for module in modules for p in module.parameters()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "model",
    [
        LlamaForCausalLM(LlamaConfig(**SIZES, bos_token_id=1, eos_token_id=2)),
        BertModel(BertConfig(**SIZES)),  # two tasks
    ],
    ids=["llama", "bert"],
)
def test_a_server_of_every_split_point_holds_each_weight_once(tmp_path, model, dtype):
    model.save_pretrained(tmp_path)
    tails = Tails(ServerConfig(models=(str(tmp_path),), dtype=dtype))
    (served,) = tails.models.values()
    assert len(served.tails) == len(served.info.tasks) * 5
    size = 4 if dtype == "float32" else 2
    own = [tensor for name, tensor in model.named_parameters() if "embed" not in name]
    assert sorted(held(tails).values()) == sorted(size * tensor.numel() for tensor in own)


def test_a_server_of_one_split_point_holds_the_weights_of_two_tasks_once(tmp_path):
    model = BertModel(BertConfig(**SIZES))
    model.save_pretrained(tmp_path)
    tails = Tails(ServerConfig(models=(str(tmp_path),), split="layers.2", dtype="bfloat16"))
    (served,) = tails.models.values()
    assert {task: tail.task for (task, _), tail in served.tails.items()} == {
        "embedding": "embedding",
        "tokens": "tokens",
    }
    own = [
        tensor
        for name, tensor in model.named_parameters()
        if name.startswith(("encoder.layer.2.", "encoder.layer.3.", "pooler"))
    ]
    assert sorted(held(tails).values()) == sorted(2 * tensor.numel() for tensor in own)
