"""Token states in, one vector a sentence out, as a sentence-transformers folder asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn.functional import normalize

from featurewire_models.errors import ArchitectureError
from featurewire_models.info import read_json

MODES = ("mean", "cls", "max")


@dataclass(frozen=True)
class Pooling:
    """``mode``: "mean", "cls" or "max" over the tokens that the mask leaves; then unit length."""

    mode: str
    normalised: bool

    def __call__(self, states: Tensor, mask: Tensor) -> Tensor:
        """``[batch, hidden]`` of states ``[batch, tokens, hidden]``, mask ``[batch, tokens]``."""
        kept = mask[..., None].expand(states.shape).to(states.dtype)
        if self.mode == "mean":
            pooled = (states * kept).sum(1) / kept.sum(1).clamp(min=1e-9)
        elif self.mode == "cls":
            pooled = states[:, 0]
        else:
            pooled = states.masked_fill(kept == 0, -1e9).amax(1)
        return normalize(pooled, p=2.0, dim=1) if self.normalised else pooled


def read_pooling(folder: Path) -> Pooling:
    """The folder's pooling; the plain mean where it names none. Raises ArchitectureError."""
    modules = folder / "modules.json"
    if not modules.is_file():
        return Pooling("mean", normalised=False)
    try:
        chain = json.loads(modules.read_text(encoding="utf-8"))
        kinds = [str(module["type"]).rpartition(".")[2] for module in chain]
    except (ValueError, KeyError, TypeError) as error:
        raise ArchitectureError(f"{folder.name}/modules.json is no list of modules.") from error
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise ArchitectureError(
            f"{folder.name} is a chain of {', '.join(kinds)}; a Transformer, its Pooling and maybe "
            "a Normalize are supported."
        )
    config = read_json(folder / "1_Pooling" / "config.json")
    chosen = [mode for mode in MODES if _asks_for(config, mode)]
    if len(chosen) != 1:
        raise ArchitectureError(
            f"{folder.name}/1_Pooling must ask for one of {', '.join(MODES)}, not {config}."
        )
    return Pooling(chosen[0], normalised="Normalize" in kinds)


def _asks_for(config: dict[str, object], mode: str) -> bool:
    if "pooling_mode" in config:
        return config["pooling_mode"] in (mode, [mode])
    name = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}[mode]
    return bool(config.get(f"pooling_mode_{name}"))
