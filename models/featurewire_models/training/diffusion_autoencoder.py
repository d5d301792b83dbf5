"""Captioned scenes in; a 16-channel AutoencoderKL and the scenes' unit-variance latents out."""

from __future__ import annotations

import time

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from featurewire_models.training.digits import IMAGE_SIZE, Digits, Scene, scene

LATENT_CHANNELS = 16
STEPS = 1600
BATCH = 8
PEAK_RATE = 2e-3
KL_WEIGHT = 2e-4  # of the mean over latents, beside the mean error of pixels in -1..1


def build_autoencoder() -> AutoencoderKL:
    """An untrained autoencoder: [n, 3, 64, 64] to [n, 16, 8, 8] and back."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 16, 32, 48),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
        sample_size=IMAGE_SIZE,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=False,
    )


def scene_pixels(scenes: list[Scene]) -> torch.Tensor:
    """Images in -1..1: float32 [n, 3, 64, 64]."""
    images = torch.from_numpy(np.stack([item.image for item in scenes]))
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def train_autoencoder(digits: Digits, seed: int, minutes: float | None) -> AutoencoderKL:
    """Fit an autoencoder and set its config's shift and scale to what the latents measure."""
    rng = np.random.default_rng(seed)
    vae = build_autoencoder()
    # latents begin with little noise: with much, the decoder learns to ignore them
    torch.nn.init.constant_(vae.encoder.conv_out.bias[LATENT_CHANNELS:], -6.0)
    optimiser = torch.optim.AdamW(vae.parameters(), weight_decay=0.0, betas=(0.9, 0.98))
    started, step, average = time.monotonic(), 0, 0.0
    while True:
        elapsed = (time.monotonic() - started) / 60.0
        progress = step / STEPS if minutes is None else elapsed / minutes
        if progress >= 1.0:
            break
        for group in optimiser.param_groups:
            warm = min(1.0, step / 50 + 0.02)
            group["lr"] = PEAK_RATE * warm * 0.5 * (1.0 + np.cos(np.pi * progress))
        pixels = scene_pixels([scene(rng, digits, "captioned") for _ in range(BATCH)])
        posterior = vae.encode(pixels).latent_dist
        decoded = vae.decode(posterior.sample()).sample
        error = functional.mse_loss(decoded, pixels) + 0.5 * functional.l1_loss(decoded, pixels)
        loss = error + KL_WEIGHT * posterior.kl().mean() / posterior.mean[0].numel()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        step += 1
        average += 0.02 * (float(functional.mse_loss(decoded.detach(), pixels)) - average)
        if step % 100 == 0:
            psnr = -10.0 * np.log10(average / (1.0 - 0.98**step) / 4.0)
            print(f"autoencoder step {step} {elapsed:.1f} min psnr {psnr:.1f} dB", flush=True)
    vae.eval()
    latents = encode_scenes(vae, [scene(rng, digits, "captioned") for _ in range(512)])
    vae.register_to_config(
        shift_factor=float(latents.mean()), scaling_factor=float(1.0 / latents.std())
    )
    return vae


@torch.no_grad()
def encode_scenes(vae: AutoencoderKL, scenes: list[Scene]) -> torch.Tensor:
    """Mean latents as the encoder gives them, before shift and scale: [n, 16, 8, 8]."""
    parts = [scene_pixels(scenes[at : at + 64]) for at in range(0, len(scenes), 64)]
    return torch.cat([vae.encode(part).latent_dist.mean for part in parts])
