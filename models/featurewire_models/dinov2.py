"""DINOv2 and other ViTs: images in; class scores, a class map, a depth map or patch features out.

Head: the patch embedding and the first k blocks. Tail: the other blocks, the final norm and what
the task puts on top. Feature ``hidden`` ``[batch, 1 + patches, hidden]``: what block k receives;
the registers of DINOv3 follow the first token. A depth head reads several levels (the outputs of
several blocks): those within the head travel
as features ``level_j``, after j blocks; ``hidden`` is then sent only if deeper levels need it and
it is no level itself. Every feature has the patches' grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DINOv3ViTModel, DPTForDepthEstimation, ViTForImageClassification, ViTModel
from transformers.modeling_outputs import (
    BaseModelOutputWithPooling,
    DepthEstimatorOutput,
    ImageClassifierOutput,
    SemanticSegmenterOutput,
)
from transformers.models.dinov2.configuration_dinov2 import Dinov2Config
from transformers.models.dinov2.modeling_dinov2 import (
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2PreTrainedModel,
)

from featurewire_models.checkpoint import Checkpoint
from featurewire_models.errors import InputError
from featurewire_models.features import Features, require
from featurewire_models.halves import (
    Cache,
    Head,
    Model,
    Tail,
    gradients_for,
    refuse_cache,
    refuse_unknown,
)
from featurewire_models.info import ModelInfo, read_config
from featurewire_models.split import check_split, layers_before
from featurewire_models.vit_parts import (
    backbone_of,
    blocks_of,
    drop_end,
    keep_blocks,
    normalised,
    positions,
    prefix_tokens,
    stack_of,
)
from featurewire_models.weights import (
    Placement,
    TensorOf,
    fill,
    shared,
    shift_blocks,
    skeleton,
)


class Dinov2ForSemanticSegmentation(Dinov2PreTrainedModel):  # type: ignore[misc]
    """DINOv2 with one linear layer over its normalised patch tokens: the paper's linear probe.

    transformers has no such class; this one saves and loads like any of its models.
    """

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.dinov2 = Dinov2Model(config)
        self.classifier = nn.Conv2d(config.hidden_size, config.num_labels, kernel_size=1)
        self.post_init()

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None
    ) -> SemanticSegmenterOutput:
        """Class scores of every patch.

        ``pixel_values`` is ``[batch, 3, height, width]``, ``labels`` int64 ``[batch, rows, cols]``
        with -100 where no class is known. ``.logits`` is ``[batch, labels, rows, cols]``, where
        rows and cols count the patches; ``.loss`` is the mean cross-entropy, when labels are given.
        """
        tokens = self.dinov2(pixel_values).last_hidden_state
        logits = self.classify(tokens, _patch_grid(self.config, pixel_values))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SemanticSegmenterOutput(loss=loss, logits=logits)

    def classify(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Scores ``[batch, labels, rows, cols]`` of tokens ``[batch, 1 + patches, hidden]``."""
        patches = tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, *grid)
        scores: Tensor = self.classifier(patches)
        return scores


CLASSES: tuple[Any, ...] = (
    Dinov2Model,
    Dinov2ForImageClassification,
    Dinov2ForSemanticSegmentation,
    DPTForDepthEstimation,
    DINOv3ViTModel,
    ViTModel,
    ViTForImageClassification,
)


@dataclass(frozen=True)
class Dinov2Head(Head):
    """Patch embedding, first blocks. Inputs: ``pixel_values`` float ``[batch, 3, height, width]``.

    Height and width are multiples of the patch size, or are cut to one as the class does.
    """

    network: Any

    def __call__(self, inputs: Mapping[str, Tensor], cache: Cache | None = None) -> Features:
        """Features ``hidden`` and, for depth, ``level_j``; each with the patches' grid."""
        refuse_cache(self.info, cache)
        backbone = backbone_of(self.network)
        pixels = _check_pixels(backbone.config, inputs)
        parameter, grid = next(backbone.parameters()), _patch_grid(backbone.config, pixels)
        with gradients_for(pixels):
            states = [backbone.embeddings(pixels.to(parameter.device, parameter.dtype))]
            beside = positions(backbone, states[0], grid)
            for block in blocks_of(backbone):
                states.append(block(states[-1], **beside))
        names = _features(self.network, layers_before(self.split))
        return Features(
            tensors={name: states[depth] for name, depth in names.items()},
            grids=dict.fromkeys(names, grid),
        )


@dataclass(frozen=True)
class Dinov2Tail(Tail):
    """Last blocks, norm and the task's head. Gives what the task's class returns."""

    network: Any

    def __call__(self, features: Features, cache: Cache | None = None) -> Any:
        """``.logits``, ``.predicted_depth`` or, for task features, ``.last_hidden_state``."""
        refuse_cache(self.info, cache)
        backbone, first = backbone_of(self.network), layers_before(self.split)
        parameter = next(self.network.parameters())
        states = {}
        for name, depth in _features(self.network, first).items():
            tensor = require(features, name, backbone.config.hidden_size)
            states[depth] = tensor.to(parameter.device, parameter.dtype)
        grid = _check_grid(features, states, prefix_tokens(backbone.config))
        with gradients_for(*states.values()):
            beside = positions(backbone, states[max(states)], grid)
            for depth, block in enumerate(blocks_of(backbone), start=first):
                states[depth + 1] = block(states[depth], **beside)
            return _finish(self.network, states, grid)


@dataclass(frozen=True)
class Dinov2Whole(Model):
    """The whole network, the reference for every split of it."""

    network: Any

    def __call__(self, inputs: Mapping[str, Tensor], cache: Cache | None = None) -> Any:
        """What the class itself returns."""
        refuse_cache(self.info, cache)
        pixels = _check_pixels(backbone_of(self.network).config, inputs)
        with gradients_for(pixels):
            return self.network(pixel_values=pixels.to(next(self.network.parameters()).device))

    def head(self, split: str) -> Dinov2Head:
        """The first blocks, over this model's weights."""
        check_split(split, self.info.splits, self.info.name)
        module = _head_module(self.network.config, split, shared(self.network))
        return Dinov2Head(self.info, self.task, split, module)

    def tail(self, split: str) -> Dinov2Tail:
        """The last blocks and the task's head, over this model's weights."""
        check_split(split, self.info.splits, self.info.name)
        module = _tail_module(self.network.config, split, shared(self.network))
        return Dinov2Tail(self.info, self.task, split, module)


def load_dinov2_head(info: ModelInfo, task: str, split: str, placement: Placement) -> Dinov2Head:
    """Reads the patch embedding and the first blocks only."""
    whole, checkpoint = _open(info, task)
    module = _head_module(whole.config, split, checkpoint, placement)
    return Dinov2Head(info, task, split, module)


def load_dinov2_tail(info: ModelInfo, task: str, split: str, placement: Placement) -> Dinov2Tail:
    """Reads the last blocks, the norm and the task's head only."""
    whole, checkpoint = _open(info, task)
    module = _tail_module(whole.config, split, checkpoint, placement)
    return Dinov2Tail(info, task, split, module)


def load_dinov2(info: ModelInfo, task: str, placement: Placement) -> Dinov2Whole:
    """Reads the whole network."""
    whole, checkpoint = _open(info, task)
    fill(whole, checkpoint, placement)
    return Dinov2Whole(info, task, whole)


def _open(info: ModelInfo, task: str) -> tuple[Any, Checkpoint]:
    folder = info.folders[task]
    config = read_config(folder)
    whole = skeleton(_class_of(config), config)
    return whole, Checkpoint(info.source, folder, whole)


def _class_of(config: Any) -> Any:
    return next(one for one in CLASSES if one.__name__ == config.architectures[0])


def _head_module(
    config: Any, split: str, tensor_of: TensorOf, placement: Placement | None = None
) -> Any:
    network = skeleton(_class_of(config), config)
    backbone = backbone_of(network)
    keep_blocks(backbone, 0, layers_before(split))
    drop_end(backbone)
    for name, child in list(network.named_children()):
        if child is not backbone and network is not backbone:
            setattr(network, name, None)
    fill(network, tensor_of, placement)
    return network


def _tail_module(
    config: Any, split: str, tensor_of: TensorOf, placement: Placement | None = None
) -> Any:
    network, first = skeleton(_class_of(config), config), layers_before(split)
    backbone = backbone_of(network)
    deepest = max(_levels(network), default=backbone.config.num_hidden_layers)
    keep_blocks(backbone, first, deepest)
    backbone.embeddings = None
    stack = stack_of(backbone)
    fill(network, lambda name: tensor_of(shift_blocks(name, stack, first)), placement)
    return network


def _levels(network: Any) -> list[int]:
    """After how many blocks a depth head reads its levels; empty for the other tasks."""
    if not isinstance(network, DPTForDepthEstimation):
        return []
    config = network.backbone.config
    return [config.stage_names.index(stage) for stage in config.out_features]


def _features(network: Any, first: int) -> dict[str, int]:
    """What the head of ``layers.first`` sends: each feature's name and the blocks before it."""
    levels = _levels(network)
    names = {f"level_{depth}": depth for depth in levels if depth <= first}
    if first not in levels and max(levels, default=first) >= first:
        names["hidden"] = first
    return names


def _patch_grid(config: Any, pixels: Tensor) -> tuple[int, int]:
    return pixels.shape[-2] // config.patch_size, pixels.shape[-1] // config.patch_size


def _check_pixels(config: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    refuse_unknown(inputs, "pixel_values")
    pixels = inputs["pixel_values"]
    fixed = getattr(config, "image_size", 0) if config.model_type == "vit" else 0
    size = tuple(fixed) if isinstance(fixed, (list, tuple)) else (fixed, fixed)
    if fixed and tuple(pixels.shape[-2:]) != size:
        found = " x ".join(map(str, pixels.shape[-2:]))
        raise InputError(f"This ViT takes images of {size[0]} x {size[1]} pixels, not {found}.")
    wanted = f"[batch, {config.num_channels}, height, width]"
    if pixels.dim() != 4 or pixels.shape[1] != config.num_channels or not len(pixels):
        raise InputError(f"pixel_values must have shape {wanted}, not {list(pixels.shape)}.")
    if min(pixels.shape[-2:]) < config.patch_size or not pixels.is_floating_point():
        raise InputError(
            f"pixel_values must be floats of at least {config.patch_size} x {config.patch_size} "
            f"pixels, not {pixels.dtype} of {pixels.shape[-2]} x {pixels.shape[-1]}."
        )
    return pixels


def _check_grid(features: Features, states: Mapping[int, Tensor], prefix: int) -> tuple[int, int]:
    """The one grid of all features; InputError if they disagree with it or with one another."""
    grids = {features.grids.get(name) for name in features.tensors}
    shapes = {tuple(state.shape) for state in states.values()}
    if len(grids) != 1 or len(shapes) != 1 or None in grids:
        raise InputError(f"The features must share one grid and shape, not {grids} and {shapes}.")
    (grid,), (shape,) = grids, shapes
    if grid is None or min(grid) < 1 or shape[1] != prefix + grid[0] * grid[1]:
        before = "one CLS token" if prefix == 1 else f"{prefix} tokens before them"
        raise InputError(f"A grid of {grid} patches and {before} are not {shape[1]} tokens.")
    return grid


def _finish(network: Any, states: Mapping[int, Tensor], grid: tuple[int, int]) -> Any:
    """What the class computes from its backbone's states, by their depth in blocks."""
    if isinstance(network, DPTForDepthEstimation):
        levels = [_feature_map(network.backbone, states[depth], grid) for depth in _levels(network)]
        return DepthEstimatorOutput(predicted_depth=network.head(network.neck(levels, *grid)))
    backbone = backbone_of(network)
    tokens = normalised(backbone, states[max(states)])
    if isinstance(network, ViTForImageClassification):
        return ImageClassifierOutput(logits=network.classifier(tokens[:, 0, :]))
    if isinstance(network, Dinov2ForImageClassification):
        pooled = torch.cat([tokens[:, 0], tokens[:, 1:].mean(dim=1)], dim=1)
        return ImageClassifierOutput(logits=network.classifier(pooled))
    if isinstance(network, Dinov2ForSemanticSegmentation):
        return SemanticSegmenterOutput(logits=network.classify(tokens, grid))
    pooler = getattr(backbone, "pooler", None)  # a plain ViT has one of its own
    pooled = tokens[:, 0] if pooler is None else pooler(tokens)
    return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=pooled)


def _feature_map(backbone: Any, state: Tensor, grid: tuple[int, int]) -> Tensor:
    """One level as the backbone class hands it to the neck."""
    if backbone.config.apply_layernorm:
        state = normalised(backbone, state)
    if backbone.config.reshape_hidden_states:
        state = state[:, 1:].reshape(len(state), *grid, -1).permute(0, 3, 1, 2).contiguous()
    return state
