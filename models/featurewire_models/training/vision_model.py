"""Scenes in as tensors; one Dinov2 backbone under three heads, saved as three models, out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import (
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2ForImageClassification,
    DPTConfig,
    DPTForDepthEstimation,
)

from featurewire_models.dinov2 import Dinov2ForSemanticSegmentation
from featurewire_models.training.digits import BACKGROUND_DEPTH, IMAGE_SIZE, NAMES, Scene

PATCH_SIZE = 4
LEVELS = (2, 3, 5, 6)  # the blocks whose outputs the depth head reads
BACKBONE = {
    "image_size": IMAGE_SIZE,
    "patch_size": PATCH_SIZE,
    "hidden_size": 96,
    "num_hidden_layers": 6,
    "num_attention_heads": 3,
    "mlp_ratio": 4,
}


class VisionModel(nn.Module):
    """The three models of tiny-dinov2 over one backbone."""

    def __init__(self) -> None:
        super().__init__()
        digits = dict(enumerate(NAMES))
        classes = dict(enumerate(("background", *NAMES)))
        self.classification = Dinov2ForImageClassification(named(Dinov2Config(**BACKBONE), digits))
        self.segmentation = Dinov2ForSemanticSegmentation(named(Dinov2Config(**BACKBONE), classes))
        self.depth = DPTForDepthEstimation(depth_config())
        # the head's final ReLU passes no gradient below zero: begin at the far plane
        nn.init.constant_(self.depth.head.head[-2].bias, BACKGROUND_DEPTH)
        backbone = self.classification.dinov2
        self.segmentation.dinov2 = backbone
        for part in ("embeddings", "encoder", "layernorm"):
            setattr(self.depth.backbone, part, getattr(backbone, part))

    def forward(
        self, pixels: torch.Tensor, singles: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Run the backbone once for all heads.

        `pixels` [batch, 3, height, width], of which the first `singles` are classified. Returns
        class scores [singles, 10], mask scores [batch, 11, rows, cols], depth [batch, h, w].
        """
        backbone = self.classification.dinov2
        states = backbone(pixels, output_hidden_states=True).hidden_states
        rows, cols = (side // PATCH_SIZE for side in pixels.shape[-2:])
        tokens = backbone.layernorm(states[-1])
        pooled = torch.cat([tokens[:singles, 0], tokens[:singles, 1:].mean(dim=1)], dim=1)
        grid = tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, rows, cols)
        levels = [backbone.layernorm(states[level]) for level in LEVELS]
        depth = self.depth.head(self.depth.neck(levels, rows, cols))
        return self.classification.classifier(pooled), self.segmentation.classifier(grid), depth

    def save_pretrained(self, folder: Path) -> None:
        """Write the three folders, with float16 weights."""
        processor = BitImageProcessorPil(
            size={"shortest_edge": IMAGE_SIZE},
            crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
            image_mean=[0.5, 0.5, 0.5],
            image_std=[0.5, 0.5, 0.5],
        )
        for name, model in self._folders().items():
            weights = {key: value.half() for key, value in model.state_dict().items()}
            model.save_pretrained(folder / name, state_dict=weights)
            processor.save_pretrained(folder / name)
            (folder / name / "model.safetensors").chmod(0o644)

    def load_weights(self, folder: Path) -> None:
        """Take the weights that `save_pretrained` wrote; they stay float32."""
        for name, model in self._folders().items():
            saved = type(model).from_pretrained(folder / name, dtype=torch.float32)
            model.load_state_dict(saved.state_dict())

    def _folders(self) -> dict[str, Any]:
        return {"": self.classification, "segmentation": self.segmentation, "depth": self.depth}


def named(config: Dinov2Config, names: dict[int, str]) -> Dinov2Config:
    """`config` with the classes' names."""
    config.id2label = names
    config.label2id = {name: index for index, name in names.items()}
    return config


def depth_config() -> DPTConfig:
    """DPT over the backbone; levels of 16, 8, 4 and 2 pixels a side, fused to 64."""
    return DPTConfig(
        backbone_config=Dinov2Config(
            **BACKBONE,
            out_features=[f"stage{level}" for level in LEVELS],
            reshape_hidden_states=False,
        ),
        is_hybrid=False,
        readout_type="ignore",
        reassemble_factors=[1, 0.5, 0.25, 0.125],
        neck_hidden_sizes=[32, 32, 32, 32],
        fusion_hidden_size=32,
        use_auxiliary_head=False,
    )


def scene_batch(
    scenes: list[Scene], small: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels in -1..1 [n, 3, h, w], labels [n], masks [n, h, w], depth [n, h, w].

    Height and width are 64, or 32 if `small`.
    """
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1.0
    labels = torch.tensor([scene.label for scene in scenes])
    masks = torch.from_numpy(np.stack([scene.mask for scene in scenes])).long()
    depth = torch.from_numpy(np.stack([scene.depth for scene in scenes]))
    if small:
        pixels = functional.avg_pool2d(pixels, 2)
        masks, depth = masks[:, ::2, ::2], depth[:, ::2, ::2]
    return pixels, labels, masks, depth
