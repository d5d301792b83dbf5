"""Stable Diffusion 3: token ids of a prompt and a seed in, images out.

Split ``latents``: the head is the text encoders and the denoiser, feature ``latents``
``[batch, rows * cols, 16]`` with the grid (rows, cols); the tail is the VAE's decoder alone. Split
``prompt``: the head is the text encoders, features ``clip`` and, where the folder has a T5 encoder,
``t5`` ``[batch, tokens, channels]``, with ``negative_clip`` and ``negative_t5`` under guidance; the
tail denoises and decodes. The noise that denoising starts from is drawn from the seed by whoever
denoises, so it never travels.

The denoising loop is StableDiffusion3Pipeline's own, given prompt states in place of a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from torch.nn.functional import pad

from featurewire_models.errors import InputError, TaskError
from featurewire_models.features import Features, require
from featurewire_models.halves import Cache, Head, Model, Tail, refuse_cache
from featurewire_models.info import ModelInfo
from featurewire_models.outputs import Outputs
from featurewire_models.sd3_parts import (
    Denoiser,
    TextEncoders,
    read_decoder,
    read_denoiser,
    read_text_encoders,
)
from featurewire_models.split import check_split
from featurewire_models.weights import LOOKED_UP, Placement

T5_TOKENS = 256  # StableDiffusion3Pipeline's max_sequence_length
MAX_STEPS = 1000  # a denoising run of more would only hold the machine
SETTINGS = ("seed", "num_inference_steps", "guidance_scale")


@dataclass(frozen=True)
class Sd3Head(Head):
    """Text encoders and, for split ``latents``, the denoiser.

    Inputs: ``input_ids`` and ``input_ids_2`` int64 ``[batch, tokens]``, one for each CLIP encoder,
    ``input_ids_3`` ``[batch, 256]`` where the folder has a T5 encoder, the same with
    ``negative_`` before the name for guidance; ``seed`` int64 ``[batch]``,
    ``num_inference_steps`` int64 and ``guidance_scale`` float64, both of shape ``[]``.
    """

    encoders: TextEncoders
    denoiser: Denoiser | None

    def __call__(self, inputs: Mapping[str, Tensor], cache: Cache | None = None) -> Features:
        """Features ``latents``, or ``clip`` and the like, as the module's docstring says."""
        refuse_cache(self.info, cache)
        features = _encode(self.encoders, inputs)
        if self.denoiser is None:
            return features
        latents = _denoise(self.denoiser, features)
        return Features(
            tensors={"latents": latents.flatten(2).transpose(1, 2).contiguous()},
            grids={"latents": (latents.shape[2], latents.shape[3])},
        )


@dataclass(frozen=True)
class Sd3Tail(Tail):
    """The VAE's decoder and, for split ``prompt``, the denoiser before it."""

    denoiser: Denoiser | None
    vae: Any

    def __call__(self, features: Features, cache: Cache | None = None) -> Outputs:
        """``.images``: uint8 ``[batch, height, width, 3]``."""
        refuse_cache(self.info, cache)
        if self.denoiser is not None:
            return _decode(self.vae, _denoise(self.denoiser, features))
        return _decode(self.vae, self._latents(features))

    def differentiable(self, features: Features) -> Outputs:
        """``.images``: float ``[batch, 3, height, width]`` as the VAE gives them, -1 to 1 or so."""
        if self.denoiser is not None:
            raise TaskError(
                f"The tail of {self.info.name} after {self.split} denoises, which has no gradients."
            )
        return Outputs(images=_pixels(self.vae, self._latents(features)))

    def _latents(self, features: Features) -> Tensor:
        channels = self.vae.config.latent_channels
        tokens = require(features, "latents", channels)
        rows, cols = features.grids.get("latents", (0, 0))
        if rows * cols != tokens.shape[1] or min(rows, cols) < 1:
            raise InputError(f"A grid of {rows} x {cols} latents is not {tokens.shape[1]} tokens.")
        latents = tokens.transpose(1, 2).reshape(len(tokens), channels, rows, cols)
        # a view would have the channels last, which convolutions compute in another order
        return latents.contiguous()


@dataclass(frozen=True)
class Sd3Whole(Model):
    """All parts, the reference for both splits."""

    encoders: TextEncoders
    denoiser: Denoiser
    vae: Any

    def __call__(self, inputs: Mapping[str, Tensor], cache: Cache | None = None) -> Outputs:
        """``.images``: uint8 ``[batch, height, width, 3]``, the pipeline's for the same call."""
        refuse_cache(self.info, cache)
        return _decode(self.vae, _denoise(self.denoiser, _encode(self.encoders, inputs)))

    def head(self, split: str) -> Sd3Head:
        """The parts before the split point, over this model's weights."""
        check_split(split, self.info.splits, self.info.name)
        denoiser = self.denoiser if split == "latents" else None
        return Sd3Head(self.info, self.task, split, self.encoders, denoiser)

    def tail(self, split: str) -> Sd3Tail:
        """The parts after the split point, over this model's weights."""
        check_split(split, self.info.splits, self.info.name)
        denoiser = self.denoiser if split == "prompt" else None
        return Sd3Tail(self.info, self.task, split, denoiser, self.vae)


def load_sd3_head(info: ModelInfo, task: str, split: str, placement: Placement) -> Sd3Head:
    """Reads the text encoders and, for split ``latents``, the denoiser."""
    if placement is not LOOKED_UP:  # all parts, before any of them is read
        load_sd3_head(info, task, split, LOOKED_UP)
    denoiser = read_denoiser(info, placement) if split == "latents" else None
    return Sd3Head(info, task, split, read_text_encoders(info, placement), denoiser)


def load_sd3_tail(info: ModelInfo, task: str, split: str, placement: Placement) -> Sd3Tail:
    """Reads the VAE's decoder and, for split ``prompt``, the denoiser."""
    if placement is not LOOKED_UP:
        load_sd3_tail(info, task, split, LOOKED_UP)
    denoiser = read_denoiser(info, placement) if split == "prompt" else None
    return Sd3Tail(info, task, split, denoiser, read_decoder(info, placement))


def load_sd3(info: ModelInfo, task: str, placement: Placement) -> Sd3Whole:
    """Reads all parts; of the VAE the decoder only."""
    if placement is not LOOKED_UP:
        load_sd3(info, task, LOOKED_UP)
    encoders = read_text_encoders(info, placement)
    denoiser, vae = read_denoiser(info, placement), read_decoder(info, placement)
    return Sd3Whole(info, task, encoders, denoiser, vae)


def _encode(encoders: TextEncoders, inputs: Mapping[str, Tensor]) -> Features:
    """The prompt's states, and the empty or negative prompt's where guidance needs them."""
    names = encoders.input_names
    needed = [*names, *SETTINGS]
    missing = [name for name in needed if name not in inputs]
    if missing:
        raise InputError(f"The inputs lack {', '.join(missing)}; they must be {', '.join(needed)}.")
    batch = len(inputs["input_ids"])
    _check_settings(inputs, batch)
    tensors: dict[str, Tensor] = {}
    uncoded = {name: inputs[name] for name in SETTINGS}
    for prefix in ("", "negative_") if float(inputs["guidance_scale"]) > 1 else ("",):
        ids = [inputs[prefix + name] for name in names if prefix + name in inputs]
        if len(ids) != len(names) or any(each.dim() != 2 or len(each) != batch for each in ids):
            wanted = ", ".join(prefix + name for name in names)
            raise InputError(f"{wanted} must each be given with shape [{batch}, tokens].")
        with torch.no_grad():
            states, pooled = encoders(ids)
        tensors |= {prefix + name: state for name, state in states.items()}
        uncoded[prefix + "pooled"] = pooled
    return Features(tensors=tensors, uncoded=uncoded)


def _check_settings(given: Mapping[str, Tensor], batch: int) -> None:
    missing = [name for name in SETTINGS if name not in given]
    if missing:
        raise InputError(f"The settings lack {', '.join(missing)}.")
    seed, steps, scale = (given[name] for name in SETTINGS)
    if seed.shape != (batch,) or seed.is_floating_point():
        raise InputError(f"seed must be one integer for each of the {batch} images.")
    if steps.dim() or steps.is_floating_point() or not 1 <= int(steps) <= MAX_STEPS:
        raise InputError(f"num_inference_steps must be one integer from 1 to {MAX_STEPS}.")
    if scale.dim() or not torch.isfinite(scale):
        raise InputError("guidance_scale must be one finite number.")


def _denoise(denoiser: Denoiser, features: Features) -> Tensor:
    """The final latents ``[batch, channels, rows, cols]``, by the pipeline's own loop."""
    transformer = denoiser.transformer
    states = _prompt_states(denoiser, features, "")
    batch, config = len(states), transformer.config
    _check_settings(features.uncoded, batch)
    scale = float(features.uncoded["guidance_scale"])
    negative: dict[str, Tensor] = {}
    if scale > 1:
        negative["negative_prompt_embeds"] = _prompt_states(denoiser, features, "negative_")
        negative["negative_pooled_prompt_embeds"] = _pooled(denoiser, features, "negative_", batch)
    seeds = features.uncoded["seed"].tolist()
    shape = (batch, config.in_channels, config.sample_size, config.sample_size)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        # Its own, because a scheduler counts steps and several runs may share the transformer.
        scheduler=FlowMatchEulerDiscreteScheduler.from_config(denoiser.scheduler_config),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    latents: Tensor = pipeline(
        prompt_embeds=states,
        pooled_prompt_embeds=_pooled(denoiser, features, "", batch),
        latents=randn_tensor(shape, generators, states.device, states.dtype),
        num_inference_steps=int(features.uncoded["num_inference_steps"]),
        guidance_scale=scale,
        output_type="latent",
        **negative,
    ).images
    return latents


def _prompt_states(denoiser: Denoiser, features: Features, prefix: str) -> Tensor:
    """CLIP's states widened to T5's channels, then T5's states, or zeros where there is no T5."""
    transformer = denoiser.transformer
    width = transformer.config.joint_attention_dim
    clip = require(features, f"{prefix}clip", denoiser.clip_channels)
    clip = clip.to(transformer.device, transformer.dtype)
    if denoiser.has_t5:
        t5 = require(features, f"{prefix}t5", width).to(clip.device, clip.dtype)
    else:
        t5 = clip.new_zeros(len(clip), T5_TOKENS, width)
    return torch.cat([pad(clip, (0, width - clip.shape[-1])), t5], dim=-2)


def _pooled(denoiser: Denoiser, features: Features, prefix: str, batch: int) -> Tensor:
    transformer, name = denoiser.transformer, f"{prefix}pooled"
    wanted = (batch, transformer.config.pooled_projection_dim)
    pooled = features.uncoded.get(name)
    if pooled is None or pooled.shape != wanted:
        found = "absent" if pooled is None else list(pooled.shape)
        raise InputError(f"{name} must have shape {list(wanted)}; it is {found}.")
    return pooled.to(transformer.device, transformer.dtype)


def _decode(vae: Any, latents: Tensor) -> Outputs:
    """Images ``uint8 [batch, height, width, 3]`` of final latents, as the pipeline makes them."""
    with torch.no_grad():
        pixels = _pixels(vae, latents)
    unit = VaeImageProcessor().postprocess(pixels, output_type="np")
    return Outputs(images=torch.from_numpy((unit * 255).round().astype("uint8")))


def _pixels(vae: Any, latents: Tensor) -> Tensor:
    latents = latents.to(vae.device, vae.dtype)
    latents = latents / vae.config.scaling_factor + vae.config.shift_factor
    pixels: Tensor = vae.decode(latents, return_dict=False)[0]
    return pixels
