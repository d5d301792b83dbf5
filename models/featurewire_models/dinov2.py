"""DINOv2: images in; class scores, a class map, a depth map or patch features out."""

from __future__ import annotations

import torch
from torch import nn
from transformers.modeling_outputs import SemanticSegmenterOutput
from transformers.models.dinov2.configuration_dinov2 import Dinov2Config
from transformers.models.dinov2.modeling_dinov2 import Dinov2Model, Dinov2PreTrainedModel


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
        patch = self.config.patch_size
        rows, cols = pixel_values.shape[-2] // patch, pixel_values.shape[-1] // patch
        patches = tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, rows, cols)
        logits = self.classifier(patches)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SemanticSegmenterOutput(loss=loss, logits=logits)
