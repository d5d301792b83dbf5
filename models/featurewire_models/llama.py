"""Llama and every decoder-only language model of its shape: token ids in, next-token logits out.

Head: the embedding and the first k blocks. Feature ``hidden`` ``[batch, tokens, hidden]``: what
block k receives, or for the last split point what the final norm receives. Tail: the other blocks,
the norm and ``lm_head``. Both halves are transformers' own class with fewer blocks, so its forward
pass computes masks, rotary embeddings and caches as it does unsplit.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache

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
    refuse_unknown,
)
from featurewire_models.info import ModelInfo, read_config
from featurewire_models.ragged import is_whole, ragged, ragged_mask
from featurewire_models.split import check_split, layers_before
from featurewire_models.weights import (
    Placement,
    TensorOf,
    fill,
    shared,
    shift_blocks,
    skeleton,
)

OPTIONAL_INPUTS = ("attention_mask", "position_ids", "logits_to_keep", "labels")
build = AutoModelForCausalLM.from_config


@dataclass(frozen=True)
class LlamaHead(Head):
    """Embedding and first blocks. Inputs: ``input_ids`` int64 ``[batch, tokens]`` and, if wanted,

    ``attention_mask`` ``[batch, tokens seen so far and these]``, ``position_ids``
    ``[1 or batch, tokens]``, ``logits_to_keep`` (a number of last tokens, or their indices) and
    ``labels`` ``[batch, tokens]`` (-100 where none). Those travel uncoded when given.
    """

    language_model: Any

    def __call__(self, inputs: Mapping[str, Tensor], cache: Cache | None = None) -> Features:
        """Feature ``hidden`` ``[batch, tokens, hidden]`` of the next tokens."""
        _check_inputs(self.info, self.language_model.config, inputs)
        hidden = _run(self.info, self.language_model.model, inputs, cache).last_hidden_state
        uncoded = {name: inputs[name] for name in OPTIONAL_INPUTS if name in inputs}
        return Features(tensors={"hidden": hidden}, uncoded=uncoded)

    def takes_spans(self, inputs: Mapping[str, Tensor]) -> bool:
        """``input_ids`` of one sequence within the context, and maybe a number of logits to keep.

        Masks and positions are of the whole, and labels need the logits of all tokens at once.
        """
        ids, keep = inputs.get("input_ids"), inputs.get("logits_to_keep")
        return (
            set(inputs) <= {"input_ids", "logits_to_keep"}
            and ids is not None
            and ids.dim() == 2
            and len(ids) == 1
            and (self.info.context is None or ids.shape[1] <= self.info.context)
            and (keep is None or _keeps(keep, ids.shape[1]))
        )

    def new_cache(self) -> Cache:
        """An empty cache of the head's own blocks."""
        return Cache(DynamicCache(config=self.language_model.config))


@dataclass(frozen=True)
class LlamaTail(Tail):
    """Last blocks, norm and ``lm_head``. Gives ``.logits`` ``[batch, tokens, vocabulary]`` and,

    where labels came, ``.loss``: the mean of the next-token losses, in nats.
    """

    per_sample = frozenset({"attention_mask", "position_ids"})
    of_all = frozenset({"logits_to_keep"})
    of_tokens = True
    language_model: Any

    def __call__(self, features: Features, cache: Cache | None = None) -> Any:
        """What the unsplit class returns for the same tokens."""
        config, dtype = self.language_model.config, self.language_model.lm_head.weight.dtype
        hidden = require(features, "hidden", config.hidden_size).to(self.device, dtype)
        inputs = {"inputs_embeds": hidden, **features.uncoded}
        refuse_unknown(inputs, "inputs_embeds", *OPTIONAL_INPUTS)
        return _run(self.info, self.language_model, inputs, cache)

    def new_cache(self) -> Cache:
        """An empty cache of the tail's own blocks."""
        return Cache(DynamicCache(config=self.language_model.config))

    def step(self, feature: Features, cache: Cache) -> Tensor:
        """As of every causal tail, without the logits of the tokens before the last."""
        last = {"logits_to_keep": torch.tensor(1)}
        logits: Tensor = self(replace(feature, uncoded=last), cache=cache).logits[0, -1]
        return logits

    def span(self, feature: Features, cache: Cache, tokens: int) -> dict[str, Tensor]:
        """Its ``logits``, ``[1, kept, vocabulary]``; ``logits_to_keep`` is a number or absent."""
        hidden = require(feature, "hidden", self.language_model.config.hidden_size)
        refuse_unknown({"hidden": hidden, **feature.uncoded}, "hidden", "logits_to_keep")
        keep = feature.uncoded.get("logits_to_keep")
        if keep is not None and keep.dim():
            raise InputError("logits_to_keep must be one integer where tokens come in spans.")
        _check_shapes(self.info, feature.uncoded, 1, tokens, 0)
        first = tokens - int(keep) if keep is not None and int(keep) else 0
        kept = min(cache.length + hidden.shape[1] - first, hidden.shape[1])
        # 0 would keep all of them
        last = {"logits_to_keep": torch.tensor(max(kept, 1))}
        logits = self(replace(feature, uncoded=last), cache=cache).logits
        return {"logits": logits} if kept > 0 else {}

    def span_bytes(self, tokens: int, uncoded: Mapping[str, Tensor]) -> int:
        """The logits of the tokens that are kept; of all, for a number that is none."""
        weight = self.language_model.lm_head.weight
        keep = uncoded.get("logits_to_keep")
        kept = int(keep) if keep is not None and keep.numel() == 1 else 0
        return int((kept if 0 < kept <= tokens else tokens) * len(weight) * weight.itemsize)

    def cache_bytes(self, tokens: int) -> int:
        """Keys and values of the tail's own blocks, a sliding window taken for the whole."""
        config, weight = self.language_model.config, self.language_model.lm_head.weight
        width = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        return int(2 * config.num_hidden_layers * heads * width * weight.itemsize * tokens)

    def steps(self, features: Sequence[Features], caches: Sequence[Cache]) -> list[Any]:
        """A token of each of several sequences in one forward pass, where the blocks allow it."""
        if len(caches) < 2 or not all(is_whole(cache.states) for cache in caches):
            return super().steps(features, caches)
        width = self.language_model.config.hidden_size
        rows = [require(feature, "hidden", width) for feature in features]
        if any(row.shape[:2] != (1, 1) for row in rows):
            return super().steps(features, caches)
        dtype = self.language_model.lm_head.weight.dtype
        lengths = [cache.length for cache in caches]
        for length in lengths:
            check_context(self.info, length + 1)
        device = self.device
        arguments: dict[str, Any] = {"use_cache": False}
        if self.language_model.config.num_hidden_layers:
            arguments = {
                "use_cache": True,
                "past_key_values": ragged([cache.states for cache in caches]),
                "attention_mask": ragged_mask([length + 1 for length in lengths], device),
            }
        with gradients_for(*rows):
            outputs = self.language_model(
                inputs_embeds=torch.cat(rows).to(device, dtype),
                position_ids=torch.tensor(lengths, device=device)[:, None],
                **arguments,
            )
        for cache in caches:
            cache.length += 1
        return list(outputs.logits[:, -1])


@dataclass(frozen=True)
class LlamaModel(Model):
    """The whole language model, the reference for every split of it."""

    language_model: Any

    def __call__(self, inputs: Mapping[str, Tensor], cache: Cache | None = None) -> Any:
        """What the class itself returns."""
        _check_inputs(self.info, self.language_model.config, inputs)
        return _run(self.info, self.language_model, inputs, cache)

    def new_cache(self) -> Cache:
        """An empty cache of all blocks."""
        return Cache(DynamicCache(config=self.language_model.config))

    def head(self, split: str) -> LlamaHead:
        """The first blocks, over this model's weights."""
        check_split(split, self.info.splits, self.info.name)
        config, tensor_of = self.language_model.config, shared(self.language_model)
        return LlamaHead(self.info, self.task, split, _head_module(config, split, tensor_of))

    def tail(self, split: str) -> LlamaTail:
        """The last blocks, over this model's weights."""
        check_split(split, self.info.splits, self.info.name)
        config, tensor_of = self.language_model.config, shared(self.language_model)
        return LlamaTail(self.info, self.task, split, _tail_module(config, split, tensor_of))


def load_llama_head(info: ModelInfo, task: str, split: str, placement: Placement) -> LlamaHead:
    """Reads the embedding and the first blocks only."""
    whole, checkpoint = _open(info, task)
    return LlamaHead(info, task, split, _head_module(whole.config, split, checkpoint, placement))


def load_llama_tail(info: ModelInfo, task: str, split: str, placement: Placement) -> LlamaTail:
    """Reads the last blocks, the norm and ``lm_head`` (the embedding's matrix where tied) only."""
    whole, checkpoint = _open(info, task)
    return LlamaTail(info, task, split, _tail_module(whole.config, split, checkpoint, placement))


def load_llama(info: ModelInfo, task: str, placement: Placement) -> LlamaModel:
    """Reads the whole model."""
    whole, checkpoint = _open(info, task)
    fill(whole, checkpoint, placement)
    return LlamaModel(info, task, whole)


def _open(info: ModelInfo, task: str) -> tuple[Any, Checkpoint]:
    folder = info.folders[task]
    whole = skeleton(build, read_config(folder))
    return whole, Checkpoint(info.source, folder, whole)


def _head_module(
    config: Any, split: str, tensor_of: TensorOf, placement: Placement | None = None
) -> Any:
    module = skeleton(build, _blocks(config, 0, layers_before(split)))
    module.lm_head = None
    module.model.norm = nn.Identity()
    fill(module, tensor_of, placement)
    return module


def _tail_module(
    config: Any, split: str, tensor_of: TensorOf, placement: Placement | None = None
) -> Any:
    first = layers_before(split)
    module = skeleton(build, _blocks(config, first, config.num_hidden_layers))
    module.model.embed_tokens = None
    fill(module, lambda name: tensor_of(shift_blocks(name, "model.layers", first)), placement)
    return module


def _blocks(config: Any, first: int, last: int) -> Any:
    """The configuration of blocks first..last alone; they number from 0, as caches need it."""
    part = copy.deepcopy(config)
    part.num_hidden_layers = last - first
    if getattr(part, "layer_types", None) is not None:
        part.layer_types = part.layer_types[first:last]
    return part


def _keeps(keep: Tensor, tokens: int) -> bool:
    """Whether it is a number of last tokens, 0 for all; what else may be meant the head says."""
    return not keep.dim() and not keep.is_floating_point() and 0 <= int(keep) <= tokens


def _check_inputs(info: ModelInfo, config: Any, inputs: Mapping[str, Tensor]) -> None:
    refuse_unknown(inputs, "input_ids", *OPTIONAL_INPUTS)
    check_tokens(info, inputs["input_ids"], config.vocab_size)


def _run(info: ModelInfo, module: Any, inputs: Mapping[str, Tensor], cache: Cache | None) -> Any:
    """One forward pass of a class or half of it over the next tokens, remembered in ``cache``."""
    device = next(module.parameters()).device
    sequence = inputs["input_ids"] if "input_ids" in inputs else inputs["inputs_embeds"]
    batch, tokens = sequence.shape[:2]
    seen = cache.length if cache is not None else 0
    _check_shapes(info, inputs, batch, tokens, seen)
    # Which logits are kept is read here: from a GPU that would wait for all it has to do.
    given = {
        name: tensor if name == "logits_to_keep" else tensor.to(device)
        for name, tensor in inputs.items()
    }
    if "position_ids" not in given:
        # Spelt out, because a half without blocks has no cache to count from.
        given["position_ids"] = torch.arange(seen, seen + tokens, device=device)[None]
    keep = given.get("logits_to_keep")
    arguments: dict[str, Any] = {**given}
    if keep is not None:
        arguments["logits_to_keep"] = int(keep) if keep.dim() == 0 else keep
    if "labels" in given:
        arguments["labels"] = given["labels"].long()
    if not hasattr(module, "lm_head"):  # a head computes neither
        arguments.pop("logits_to_keep", None)
        arguments.pop("labels", None)
    if module.config.num_hidden_layers == 0:
        arguments.pop("attention_mask", None)
        arguments["use_cache"] = False
    else:
        arguments["past_key_values"] = cache.states if cache is not None else None
        arguments["use_cache"] = cache is not None
    with gradients_for(sequence):
        outputs = module(**arguments)
    if cache is not None:
        cache.length += tokens
    return outputs


def check_context(info: ModelInfo, tokens: int) -> None:
    """InputError if the model cannot hold so many tokens."""
    if info.context is not None and tokens > info.context:
        raise InputError(
            f"{tokens} tokens are more than the {info.context} of {info.name}'s context."
        )


def _check_shapes(
    info: ModelInfo, given: Mapping[str, Tensor], batch: int, tokens: int, seen: int
) -> None:
    check_context(info, seen + tokens)
    mask, positions = given.get("attention_mask"), given.get("position_ids")
    if mask is not None and mask.shape != (batch, seen + tokens):
        raise InputError(
            f"attention_mask must have shape [{batch}, {seen + tokens}], not {list(mask.shape)}."
        )
    if positions is not None and positions.shape not in ((1, tokens), (batch, tokens)):
        raise InputError(
            f"position_ids must have shape [{batch}, {tokens}], not {list(positions.shape)}."
        )
    keep, labels = given.get("logits_to_keep"), given.get("labels")
    if labels is not None and (labels.shape != (batch, tokens) or labels.is_floating_point()):
        raise InputError(
            f"labels must be integers of shape [{batch}, {tokens}], not {labels.dtype} of "
            f"{list(labels.shape)}."
        )
    if labels is not None and keep is not None:
        raise InputError("labels need every token's logits: give them without logits_to_keep.")
    if keep is None:
        return
    indices = keep.dim() == 1 and keep.numel() > 0
    if keep.is_floating_point() or not (indices or keep.dim() == 0):
        raise InputError("logits_to_keep must be one integer or a list of token indices.")
    if int(keep.min()) < 0 or int(keep.max()) > (tokens - 1 if indices else tokens):
        raise InputError(f"logits_to_keep reaches beyond the {tokens} tokens given.")
