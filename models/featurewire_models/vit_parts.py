"""Where the classes of DINOv2, DINOv3 and other ViTs keep their embeddings, blocks and norm."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

# a stack's path in one class or another, or in another version of transformers
STACKS = ("encoder.layer", "model.layer", "layers", "layer")
NORMS = ("layernorm", "norm")


def backbone_of(network: Any) -> Any:
    """The part of a class that is embeddings, blocks and norm; it may be all of it."""
    parts = (getattr(network, name, None) for name in ("dinov2", "vit", "backbone"))
    return next((part for part in parts if part is not None), network)


def stack_of(backbone: Any) -> str:
    """The path of a backbone's blocks in it."""
    return next(path for path in STACKS if isinstance(_get(backbone, path), nn.ModuleList))


def blocks_of(backbone: Any) -> Any:
    """A backbone's blocks, in order."""
    return _get(backbone, stack_of(backbone))


def keep_blocks(backbone: Any, first: int, last: int) -> None:
    """Leaves a backbone the blocks from ``first`` up to ``last`` alone; they number from 0."""
    parent, _, name = stack_of(backbone).rpartition(".")
    owner = _get(backbone, parent) if parent else backbone
    setattr(owner, name, getattr(owner, name)[first:last])


def drop_end(backbone: Any) -> None:
    """Leaves out what follows the blocks, of which a head has no use."""
    for name in (*NORMS, "pooler"):
        if getattr(backbone, name, None) is not None:
            setattr(backbone, name, None)


def normalised(backbone: Any, state: Tensor) -> Tensor:
    """A state ``[batch, tokens, hidden]`` after the norm that follows the last block."""
    norm = next(found for name in NORMS if (found := getattr(backbone, name, None)) is not None)
    tokens: Tensor = norm(state)
    return tokens


def positions(backbone: Any, state: Tensor, grid: tuple[int, int]) -> dict[str, Any]:
    """What every block takes beside its state: DINOv3's rotary positions of the patches."""
    rotary = getattr(backbone, "rope_embeddings", None)
    if rotary is None:
        return {}
    height, width = (count * backbone.config.patch_size for count in grid)
    # only the size, dtype and device of an image matter
    return {"position_embeddings": rotary(state.new_zeros(1).expand(1, 1, height, width))}


def prefix_tokens(config: Any) -> int:
    """Tokens before the patches: the CLS token and the registers."""
    return 1 + int(getattr(config, "num_register_tokens", 0) or 0)


def _get(backbone: Any, path: str) -> Any:
    for name in path.split("."):
        backbone = getattr(backbone, name, None)
    return backbone
