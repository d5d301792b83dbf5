"""Small networks with a ReLU before their feature: maps on a grid, patches, transformers.

The transformer's layer is that of A. Vaswani et al., "Attention is all you need", arXiv 1706.03762.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

PATCH, CHANNELS, WIDTH, HIDDEN = 8, 64, 96, 192


def convolution(inputs: int, outputs: int, stride: int, normalised: bool) -> nn.Sequential:
    """A 3 x 3 convolution, a normalisation if asked for, and a ReLU."""
    norm = nn.BatchNorm2d(outputs) if normalised else nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), norm, nn.ReLU())


class MapNet(nn.Module):
    """Three convolutions to a 16 x 16 map, and what a task makes of it."""

    def __init__(self, normalised: bool, task: nn.Module) -> None:
        super().__init__()
        self.head = nn.Sequential(
            convolution(3, 32, 2, normalised),
            convolution(32, CHANNELS, 2, normalised),
            convolution(CHANNELS, CHANNELS, 1, normalised),
        )
        self.task = task

    def forward(self, images: Tensor) -> Tensor:
        """[n, 3, 64, 64] in; the feature [n, 64, 16, 16] is kept as `feature`."""
        self.feature = self.head(images)
        out: Tensor = self.task(self.feature)
        return out


class PatchNet(nn.Module):
    """Two layers that see one patch at a time, and two more."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.head = nn.Sequential(
            nn.Linear(3 * PATCH**2, 128), nn.ReLU(), nn.Linear(128, CHANNELS), nn.ReLU()
        )
        self.task = nn.Sequential(nn.Linear(CHANNELS, 128), nn.ReLU(), nn.Linear(128, outputs))

    def forward(self, patches: Tensor) -> Tensor:
        """[n, patches, 192] in; the feature [n, patches, 64] is kept."""
        self.feature = self.head(patches)
        out: Tensor = self.task(self.feature)
        return out


class Layer(nn.Module):
    """A transformer's layer with a ReLU, whose output is kept."""

    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        """[n, tokens, 96], the same out."""
        n, tokens, _ = x.shape
        qkv = self.qkv(self.before(x)).view(n, tokens, 3, 4, WIDTH // 4).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(
            qkv[0], qkv[1], qkv[2], is_causal=self.causal
        )
        x = x + self.out(attended.transpose(1, 2).reshape(n, tokens, WIDTH))
        self.feature: Tensor = functional.relu(self.up(self.after(x)))
        out: Tensor = x + self.down(self.feature)
        return out


class Transformer(nn.Module):
    """Layers over what `embed` makes of tokens, and a linear output."""

    def __init__(
        self, embed: nn.Module, tokens: int, layers: int, outputs: int, causal: bool
    ) -> None:
        super().__init__()
        self.embed, self.out = embed, nn.Linear(WIDTH, outputs)
        self.places = nn.Parameter(0.02 * torch.randn(tokens, WIDTH))
        self.hidden = nn.Parameter(torch.zeros(WIDTH))  # stands for masked tokens
        self.layers = [Layer(causal) for _ in range(layers)]
        self.stack = nn.Sequential(*self.layers)

    def forward(self, tokens: Tensor, masked: Tensor | None = None) -> Tensor:
        """[n, tokens, ...] in, [n, tokens, outputs] out."""
        x = self.embed(tokens)
        if masked is not None:
            x = torch.where(masked[..., None], self.hidden, x)
        out: Tensor = self.out(self.stack(x + self.places))
        return out
