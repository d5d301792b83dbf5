"""Captioned digit scenes in, the bundled folder tiny-sd3 out.

First the judge of the samples, then the autoencoder, then, on its latents, the transformer
together with both text encoders. The folder is what ``StableDiffusion3Pipeline.from_pretrained``
loads (with ``text_encoder_3=None, tokenizer_3=None``).
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

from featurewire_models.training.diffusion_autoencoder import encode_scenes, train_autoencoder
from featurewire_models.training.diffusion_flow import build_transformer, train_flow
from featurewire_models.training.diffusion_text import (
    all_captions,
    build_encoder,
    build_tokenizer,
    token_ids,
)
from featurewire_models.training.digits import load_digits, scene
from featurewire_models.training.judge import train_judge

SCENES = 8_000  # encoded once; the transformer sees each about a dozen times
SEED = 21


def main(arguments: list[str] | None = None) -> None:
    """Train and save tiny-sd3."""
    parser = argparse.ArgumentParser(
        prog="python -m featurewire_models.training.diffusion",
        description="Train tiny-sd3 (text to image) on handwritten digits composed into 64x64 "
        "scenes with captions. Needs scikit-learn. One core, about 25 minutes.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--minutes",
        type=float,
        help="train for so many minutes, with the schedules squeezed to fit (a quick look; judge "
        "and encoding take two more; the default counts steps, which gives the same weights "
        "every time)",
    )
    options = parser.parse_args(arguments)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    train_judge(options.out / "samples" / "judge.safetensors", SEED + 3)
    train_pipeline(options.out, options.minutes)
    print(f"saved {options.out}")


def train_pipeline(out: Path, minutes: float | None) -> None:
    """Train the parts one after the other and save them, a first version halfway."""
    torch.manual_seed(SEED)
    digits, _ = load_digits()
    vae = train_autoencoder(digits, SEED, None if minutes is None else 0.35 * minutes)
    rng = np.random.default_rng(SEED + 1)
    scenes = [scene(rng, digits, "captioned") for _ in range(SCENES)]
    latents = encode_scenes(vae, scenes)
    latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    tokenizer = build_tokenizer()
    encoders = (build_encoder(tokenizer), build_encoder(tokenizer))
    transformer = build_transformer()
    print(f"{len(tokenizer)} tokens, {len(all_captions())} captions, {SCENES} scenes", flush=True)

    def save() -> None:
        save_half(
            out,
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=1.0),
            vae=vae,
            text_encoder=encoders[0],
            tokenizer=tokenizer,
            text_encoder_2=encoders[1],
            tokenizer_2=copy.deepcopy(tokenizer),
        )

    train_flow(
        transformer,
        encoders,
        latents,
        token_ids(tokenizer, [item.caption for item in scenes]),
        token_ids(tokenizer, [""]),
        SEED + 2,
        None if minutes is None else 0.5 * minutes,
        save,
    )
    save()


def save_half(folder: Path, **parts: Any) -> None:
    """Write the pipeline's folder, transformer and autoencoder with float16 weights.

    The small text encoders stay float32: transformers loads them as stored, diffusers does not.
    """
    for name in ("transformer", "vae"):
        parts[name] = copy.deepcopy(parts[name]).half()
    pipeline = StableDiffusion3Pipeline(**parts, text_encoder_3=None, tokenizer_3=None)
    pipeline.save_pretrained(folder, safe_serialization=True)


if __name__ == "__main__":
    main()
