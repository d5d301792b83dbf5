"""BERT-like text encoders: token ids in; one embedding for a sentence, or token states, out.

Head: the embeddings and the first k blocks. Feature ``hidden`` ``[batch, tokens, hidden]``: what
block k receives. Tail: the other blocks, then for task "embedding" the pooling that the folder's
sentence-transformers modules ask for, for task "tokens" the class's own pooler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertModel

from featurewire_models.checkpoint import Checkpoint
from featurewire_models.errors import InputError
from featurewire_models.features import Features, require
from featurewire_models.halves import (
    Cache,
    Head,
    Model,
    Tail,
    check_tokens,
    gradients_for,
    refuse_cache,
    refuse_unknown,
)
from featurewire_models.info import ModelInfo, read_config
from featurewire_models.outputs import Outputs
from featurewire_models.pooling import Pooling, read_pooling
from featurewire_models.split import check_split, layers_before
from featurewire_models.weights import (
    Placement,
    TensorOf,
    fill,
    shared,
    shift_blocks,
    skeleton,
)

OPTIONAL_INPUTS = ("attention_mask", "token_type_ids", "position_ids")


@dataclass(frozen=True)
class BertHead(Head):
    """Embeddings and first blocks. Inputs: ``input_ids`` int64 ``[batch, tokens]`` and, if wanted,

    ``attention_mask``, ``token_type_ids`` and ``position_ids`` of that shape. The mask travels
    uncoded when it hides a token.
    """

    encoder: Any

    def __call__(self, inputs: Mapping[str, Tensor], cache: Cache | None = None) -> Features:
        """Feature ``hidden`` ``[batch, tokens, hidden]``."""
        refuse_cache(self.info, cache)
        hidden = _run(self.info, self.encoder, inputs).last_hidden_state
        uncoded = {name: inputs[name] for name in ("attention_mask",) if name in inputs}
        return Features(tensors={"hidden": hidden}, uncoded=uncoded)


@dataclass(frozen=True)
class BertTail(Tail):
    """Last blocks and pooling. Gives ``.sentence_embedding`` ``[batch, hidden]`` for task

    "embedding"; ``.last_hidden_state`` and ``.pooler_output``, as BertModel, for "tokens".
    """

    per_sample = frozenset({"attention_mask"})
    of_tokens = True
    encoder: Any
    pooling: Pooling | None

    def __call__(self, features: Features, cache: Cache | None = None) -> Any:
        """What the unsplit class, pooled if so asked, gives for the same tokens."""
        refuse_cache(self.info, cache)
        parameter = next(self.encoder.parameters(), features.tensors.get("hidden"))
        hidden = require(features, "hidden", self.encoder.config.hidden_size)
        if parameter is not None:
            hidden = hidden.to(parameter.device, parameter.dtype)
        refuse_unknown({"hidden": hidden, **features.uncoded}, "hidden", "attention_mask")
        mask = features.uncoded.get("attention_mask")
        if mask is not None and mask.shape != hidden.shape[:2]:
            raise InputError(
                f"attention_mask must have shape {list(hidden.shape[:2])}, not {list(mask.shape)}."
            )
        with gradients_for(hidden):
            outputs = self.encoder(inputs_embeds=hidden, attention_mask=_to(mask, hidden))
            return _pool(outputs, mask, self.pooling)

    def of_task(self, task: str) -> BertTail:
        """The same blocks with the other task's pooling."""
        return replace(self, task=task, pooling=_pooling(self.info, task))


@dataclass(frozen=True)
class BertWhole(Model):
    """The whole encoder, the reference for every split of it."""

    encoder: Any
    pooling: Pooling | None

    def __call__(self, inputs: Mapping[str, Tensor], cache: Cache | None = None) -> Any:
        """What the class itself returns, pooled for task "embedding"."""
        refuse_cache(self.info, cache)
        outputs = _run(self.info, self.encoder, inputs)
        return _pool(outputs, inputs.get("attention_mask"), self.pooling)

    def head(self, split: str) -> BertHead:
        """The first blocks, over this model's weights."""
        check_split(split, self.info.splits, self.info.name)
        module = _head_module(self.encoder.config, split, shared(self.encoder))
        return BertHead(self.info, self.task, split, module)

    def tail(self, split: str) -> BertTail:
        """The last blocks and the pooling, over this model's weights."""
        check_split(split, self.info.splits, self.info.name)
        pooler = self.encoder.pooler is not None and self.task != "embedding"
        module = _tail_module(self.encoder.config, split, shared(self.encoder), pooler)
        return BertTail(self.info, self.task, split, module, self.pooling)

    def of_task(self, task: str) -> BertWhole:
        """The same encoder with the other task's pooling."""
        return replace(self, task=task, pooling=_pooling(self.info, task))


def load_bert_head(info: ModelInfo, task: str, split: str, placement: Placement) -> BertHead:
    """Reads the embeddings and the first blocks only."""
    whole, checkpoint = _open(info)
    return BertHead(info, task, split, _head_module(whole.config, split, checkpoint, placement))


def load_bert_tail(info: ModelInfo, task: str, split: str, placement: Placement) -> BertTail:
    """Reads the last blocks and the class's pooler only, so that every task can be had of it."""
    whole, checkpoint = _open(info)
    pooler = whole.pooler is not None
    module = _tail_module(whole.config, split, checkpoint, pooler, placement)
    return BertTail(info, task, split, module, _pooling(info, task))


def load_bert(info: ModelInfo, task: str, placement: Placement) -> BertWhole:
    """Reads the whole encoder, the class's pooler too, so that every task can be had of it."""
    whole, checkpoint = _open(info)
    fill(whole, checkpoint, placement)
    return BertWhole(info, task, whole, _pooling(info, task))


def _open(info: ModelInfo) -> tuple[Any, Checkpoint]:
    whole = skeleton(BertModel, read_config(info.path))
    checkpoint = Checkpoint(info.source, info.path, whole)
    if "pooler.dense.weight" not in checkpoint:  # sentence embeddings have a pooling of their own
        whole.pooler = None
    return whole, checkpoint


def _pooling(info: ModelInfo, task: str) -> Pooling | None:
    return read_pooling(info.path) if task == "embedding" else None


def _head_module(
    config: Any, split: str, tensor_of: TensorOf, placement: Placement | None = None
) -> Any:
    encoder = skeleton(BertModel, config)
    encoder.encoder.layer = encoder.encoder.layer[: layers_before(split)]
    encoder.pooler = None
    fill(encoder, tensor_of, placement)
    return encoder


def _tail_module(
    config: Any, split: str, tensor_of: TensorOf, pooler: bool, placement: Placement | None = None
) -> Any:
    encoder, first = skeleton(BertModel, config), layers_before(split)
    encoder.encoder.layer = encoder.encoder.layer[first:]
    encoder.embeddings = Passthrough()
    if not pooler:
        encoder.pooler = None
    fill(encoder, lambda name: tensor_of(shift_blocks(name, "encoder.layer", first)), placement)
    return encoder


class Passthrough(nn.Module):
    """In place of a tail's embeddings: the features have been through them at the edge."""

    def forward(self, inputs_embeds: Tensor, **_: Any) -> Tensor:
        """The features as they are."""
        return inputs_embeds


def _run(info: ModelInfo, encoder: Any, inputs: Mapping[str, Tensor]) -> Any:
    refuse_unknown(inputs, "input_ids", *OPTIONAL_INPUTS)
    ids = check_tokens(info, inputs["input_ids"], encoder.config.vocab_size)
    for name, tensor in inputs.items():
        if tensor.shape != ids.shape:
            raise InputError(f"{name} must have shape {list(ids.shape)}, not {list(tensor.shape)}.")
    device = next(encoder.parameters()).device
    with torch.no_grad():
        return encoder(**{name: tensor.to(device) for name, tensor in inputs.items()})


def _to(mask: Tensor | None, hidden: Tensor) -> Tensor | None:
    return None if mask is None else mask.to(hidden.device)


def _pool(outputs: Any, mask: Tensor | None, pooling: Pooling | None) -> Any:
    if pooling is None:
        return outputs
    states = outputs.last_hidden_state
    mask = torch.ones(states.shape[:2]) if mask is None else mask
    return Outputs(sentence_embedding=pooling(states, mask.to(states.device)))
