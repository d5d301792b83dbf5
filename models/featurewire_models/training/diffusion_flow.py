"""Latents and captions in; a rectified-flow SD3Transformer2DModel and its text encoders out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import nn
from torch.nn import functional
from transformers import CLIPTextModelWithProjection

from featurewire_models.training.diffusion_text import WIDTH, encode_ids
from featurewire_models.training.muon import Muon

STEPS = 3000
BATCH = 32
MUON_RATE = 1e-2
ADAM_RATE = 1e-3
CAPTION_DROPOUT = 0.1
PIPELINE_PADDING = 256  # zero states that StableDiffusion3Pipeline adds in the absent T5's place

Encoders = tuple[CLIPTextModelWithProjection, CLIPTextModelWithProjection]


class CountedPadding:
    """Joint attention in which the last context token stands for `count` equal ones.

    Without a T5 encoder the pipeline appends 256 zero states to each prompt. They stay equal to
    one another in every block, so one of them, with log(256) added to its attention score, gives
    the same result at a sixth of the cost.
    """

    def __init__(self) -> None:
        self.count = PIPELINE_PADDING

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image states [n, t, c] and context states [n, s, c] in and out."""

        def heads(*parts: torch.Tensor) -> torch.Tensor:
            joined = torch.cat(parts, dim=1)
            return joined.view(*joined.shape[:2], attn.heads, -1).transpose(1, 2)

        query = heads(attn.to_q(hidden_states), attn.add_q_proj(encoder_hidden_states))
        key = heads(attn.to_k(hidden_states), attn.add_k_proj(encoder_hidden_states))
        value = heads(attn.to_v(hidden_states), attn.add_v_proj(encoder_hidden_states))
        bias = torch.zeros(key.shape[2])
        bias[-1] = math.log(self.count)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None])
        mixed = mixed.transpose(1, 2).flatten(2)
        tokens = hidden_states.shape[1]
        image, context = mixed[:, :tokens], mixed[:, tokens:]
        if not attn.context_pre_only:
            context = attn.to_add_out(context)
        return attn.to_out[0](image), context


def build_transformer() -> SD3Transformer2DModel:
    """An untrained transformer for latents [n, 16, 8, 8]."""
    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        num_layers=4,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=128,
        pooled_projection_dim=2 * WIDTH,
        out_channels=16,
        pos_embed_max_size=4,
    )


def train_flow(
    transformer: SD3Transformer2DModel,
    encoders: Encoders,
    latents: torch.Tensor,
    ids: torch.Tensor,
    empty: torch.Tensor,
    seed: int,
    minutes: float | None,
    save: Callable[[], None],
) -> None:
    """Fit transformer and encoders to latents [n, 16, 8, 8] of captions `ids` [n, 16].

    Rectified flow with logit-normal times; a tenth of the captions becomes `empty` [1, 16], which
    classifier-free guidance needs. `save` is called once on the way. The weights kept are an
    exponential mean of the last steps'.
    """
    generator = torch.Generator().manual_seed(seed)
    padding = CountedPadding()
    usual = transformer.attn_processors
    transformer.set_attn_processor(padding)
    parts = nn.ModuleList([transformer, *encoders])
    averaging: Any = torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)  # type: ignore[no-untyped-call]
    mean = torch.optim.swa_utils.AveragedModel(parts, multi_avg_fn=averaging)
    muon, adam = build_optimisers(parts)
    started, step, average = time.monotonic(), 0, 0.0
    while True:
        elapsed = (time.monotonic() - started) / 60.0
        progress = step / STEPS if minutes is None else elapsed / minutes
        if progress >= 1.0:
            break
        rate = min(1.0, step / 100 + 0.01) * 0.5 * (1.0 + math.cos(math.pi * progress))
        chosen = torch.randint(len(latents), (BATCH,), generator=generator)
        dropped = torch.rand(BATCH, 1, generator=generator) < CAPTION_DROPOUT
        # one call in four may ask for fewer zero states
        padding.count = PIPELINE_PADDING if step % 4 else (16, 77)[step // 4 % 2]
        loss = flow_loss(
            transformer,
            encoders,
            latents[chosen],
            torch.where(dropped, empty, ids[chosen]),
            generator,
        )
        parts.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        muon.param_groups[0]["lr"] = MUON_RATE * rate
        adam.param_groups[0]["lr"] = ADAM_RATE * rate
        muon.step()
        adam.step()
        mean.update_parameters(parts)
        step += 1
        average += 0.02 * (float(loss.detach()) - average)
        if step == STEPS // 3:
            save()
        if step % 200 == 0:
            shown = average / (1.0 - 0.98**step)
            print(f"flow step {step} {elapsed:.1f} min loss {shown:.4f}", flush=True)
    parts.load_state_dict(mean.module.state_dict())
    transformer.set_attn_processor(usual)


def build_optimisers(parts: nn.ModuleList) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the matrices of all blocks, AdamW for the rest."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weight in parts.named_parameters():
        in_block = "transformer_blocks" in name or "encoder.layers" in name
        (matrices if in_block and weight.ndim == 2 else others).append(weight)
    muon = Muon(matrices, lr=0.0, momentum=0.95, weight_decay=0.02)
    return muon, torch.optim.AdamW(others, weight_decay=0.01, betas=(0.9, 0.98))


def flow_loss(
    transformer: SD3Transformer2DModel,
    encoders: Encoders,
    clean: torch.Tensor,
    ids: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Mean squared error of the velocity from `clean` latents to noise."""
    noise = torch.randn(clean.shape, generator=generator)
    sigma = torch.sigmoid(torch.randn(len(clean), generator=generator))
    level = sigma[:, None, None, None]
    states, pooled = encode_ids(encoders, ids)
    velocity = transformer(
        hidden_states=(1.0 - level) * clean + level * noise,
        encoder_hidden_states=functional.pad(states, (0, 0, 0, 1)),
        pooled_projections=pooled,
        timestep=1000.0 * sigma,
    ).sample
    return functional.mse_loss(velocity, noise - clean)
