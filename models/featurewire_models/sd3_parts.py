"""A Stable Diffusion 3 folder goes in; its text encoders, its denoiser or its decoder comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from torch import Tensor
from transformers import CLIPTextModelWithProjection, T5EncoderModel

from featurewire_models.checkpoint import Checkpoint
from featurewire_models.errors import InputError
from featurewire_models.info import ModelInfo, has_t5, read_config, read_json
from featurewire_models.weights import Placement, fill, skeleton

DIFFUSERS_FILE = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class TextEncoders:
    """Two CLIP encoders and perhaps a T5: token ids in, prompt states out."""

    clip: tuple[Any, Any]
    t5: Any | None

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs that hold each encoder's token ids, in order."""
        return ("input_ids", "input_ids_2", "input_ids_3")[: 3 if self.t5 is not None else 2]

    def __call__(self, ids: Sequence[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """States by feature name, ``[batch, tokens, channels]``, and pooled ``[batch, both]``."""
        states, pooled = [], []
        for encoder, tokens in zip(self.clip, ids, strict=False):
            outputs = encoder(_checked(encoder, tokens), output_hidden_states=True)
            states.append(outputs.hidden_states[-2])
            pooled.append(outputs.text_embeds)
        features = {"clip": torch.cat(states, dim=-1)}
        if self.t5 is not None:
            features["t5"] = self.t5(_checked(self.t5, ids[2])).last_hidden_state
        return features, torch.cat(pooled, dim=-1)


@dataclass(frozen=True)
class Denoiser:
    """The transformer and its schedule; what its prompt states are made of."""

    transformer: Any
    scheduler_config: dict[str, Any]
    clip_channels: int
    has_t5: bool


def read_text_encoders(info: ModelInfo, placement: Placement) -> TextEncoders:
    """Reads the text encoders' weights."""
    first, second = (
        _read_encoder(info, name, CLIPTextModelWithProjection, placement)
        for name in ("text_encoder", "text_encoder_2")
    )
    t5 = _read_encoder(info, "text_encoder_3", T5EncoderModel, placement) if has_t5(info) else None
    return TextEncoders((first, second), t5)


def read_denoiser(info: ModelInfo, placement: Placement) -> Denoiser:
    """Reads the transformer's weights."""
    folders = [info.path / name for name in ("text_encoder", "text_encoder_2")]
    return Denoiser(
        transformer=_read_part(info, "transformer", SD3Transformer2DModel.from_config, placement),
        scheduler_config=read_json(info.path / "scheduler" / "scheduler_config.json"),
        clip_channels=sum(int(read_config(folder).hidden_size) for folder in folders),
        has_t5=has_t5(info),
    )


def read_decoder(info: ModelInfo, placement: Placement) -> Any:
    """Reads the decoding half of the VAE's weights."""

    def without_encoder(config: dict[str, Any]) -> Any:
        vae = AutoencoderKL.from_config(config)
        vae.encoder = vae.quant_conv = None
        return vae

    return _read_part(info, "vae", without_encoder, placement)


def _read_encoder(
    info: ModelInfo, name: str, encoder_class: Callable[[Any], Any], placement: Placement
) -> Any:
    folder = info.path / name
    encoder = skeleton(encoder_class, read_config(folder))
    fill(encoder, Checkpoint(info.source, folder, encoder), placement)
    return encoder


def _read_part(
    info: ModelInfo, name: str, build: Callable[[dict[str, Any]], Any], placement: Placement
) -> Any:
    folder = info.path / name
    part = skeleton(build, read_json(folder / "config.json"))
    fill(part, Checkpoint(info.source, folder, part, DIFFUSERS_FILE), placement)
    return part


def _checked(encoder: Any, ids: Tensor) -> Tensor:
    vocabulary = encoder.config.vocab_size
    if ids.is_floating_point() or int(ids.min()) < 0 or int(ids.max()) >= vocabulary:
        raise InputError(f"Token ids must be integers from 0 to {vocabulary - 1}.")
    return ids.to(encoder.device)
