"""The saved folder tiny-sd3 in; its figures and the demo's prompts out.

The pipeline is loaded the way a user loads it. The judge is the one in its ``samples`` folder.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import StableDiffusion3Pipeline

from featurewire_models.judge import Judge
from featurewire_models.training.diffusion_autoencoder import scene_pixels
from featurewire_models.training.digits import (
    COLOURS,
    NAMES,
    Digits,
    caption,
    load_digits,
    scene,
)

SEED = 3000
STEPS = 20
GUIDANCE = 5.0
PROMPTS = 16


def main(arguments: list[str] | None = None) -> None:
    """Print the figures; write the prompts if asked."""
    parser = argparse.ArgumentParser(
        prog="python -m featurewire_models.training.diffusion_report",
        description="Measure a tiny-sd3 folder: digits recognised, autoencoder, time.",
    )
    parser.add_argument("folder", type=Path, help="what the training wrote")
    parser.add_argument("--images", type=int, default=200, help="images to generate")
    parser.add_argument("--guidance", type=float, default=GUIDANCE, help="guidance scale")
    parser.add_argument("--padding", type=int, default=256, help="the call's max_sequence_length")
    parser.add_argument("--prompts", type=Path, help="JSON file for the demo's prompts")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    pipeline = load_pipeline(options.folder)
    judge = Judge.load(options.folder / "samples" / "judge.safetensors")
    _, held_out = load_digits()
    figures = measure_autoencoder(pipeline, judge, held_out)
    figures |= measure_images(pipeline, judge, options.images, options.guidance, options.padding)
    print(json.dumps(figures, indent=2))
    if options.prompts:
        write_prompts(options.prompts)


def load_pipeline(folder: Path) -> StableDiffusion3Pipeline:
    """The pipeline in float32, silent."""
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        folder, text_encoder_3=None, tokenizer_3=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw_prompts(count: int, seed: int = SEED) -> list[tuple[str, int, str, str]]:
    """Prompts with their digit, colour and background; the digits take turns."""
    rng = np.random.default_rng(seed)
    drawn = []
    for at in range(count):
        colour, ground = (str(name) for name in rng.choice(list(COLOURS), size=2, replace=False))
        drawn.append((caption(at % 10, colour, ground), at % 10, colour, ground))
    return drawn


def generate(
    pipeline: StableDiffusion3Pipeline,
    prompts: list[str],
    seeds: list[int],
    guidance: float = GUIDANCE,
    padding: int = 256,
) -> torch.Tensor:
    """Images of `prompts`, each from its own seed, in 20 steps: uint8 [n, 64, 64, 3]."""
    images = pipeline(
        prompts,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        height=64,
        width=64,
        max_sequence_length=padding,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="np",
    ).images
    return torch.from_numpy(np.rint(images * 255.0).astype(np.uint8))


def measure_images(
    pipeline: StableDiffusion3Pipeline, judge: Judge, count: int, guidance: float, padding: int
) -> dict[str, float]:
    """Shares of generated images whose digit is recognised and whose colours are right."""
    drawn = draw_prompts(count)
    started = time.perf_counter()
    generate(pipeline, [drawn[0][0]], [SEED], guidance, padding)
    seconds = time.perf_counter() - started
    seeds = list(range(SEED, SEED + count))
    parts = [
        generate(
            pipeline,
            [item[0] for item in drawn[at : at + 20]],
            seeds[at : at + 20],
            guidance,
            padding,
        )
        for at in range(0, count, 20)
    ]
    images = torch.cat(parts)
    digits = torch.tensor([item[1] for item in drawn])
    right = [
        colours(image.numpy()) == (item[2], item[3])
        for image, item in zip(images, drawn, strict=True)
    ]
    return {
        "generated_digits_recognised": float((judge.digits(images) == digits).float().mean()),
        "generated_colours_right": float(np.mean(right)),
        "seconds_an_image": seconds,
    }


def colours(image: npt.NDArray[np.uint8]) -> tuple[str, str]:
    """The named colours nearest to the ink and to the frame of `image` [64, 64, 3]."""
    pixels = image.astype(np.float64)
    frame = np.median(np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3)]), 0)
    distance = np.linalg.norm(pixels - frame, axis=-1)
    ink = np.median(pixels[distance > 0.7 * distance.max()], axis=0)
    names, values = list(COLOURS), np.array(list(COLOURS.values()))
    nearest = [int(np.argmin(np.linalg.norm(values - rgb, axis=1))) for rgb in (ink, frame)]
    return names[nearest[0]], names[nearest[1]]


@torch.no_grad()
def measure_autoencoder(
    pipeline: StableDiffusion3Pipeline, judge: Judge, digits: Digits, count: int = 500
) -> dict[str, float]:
    """The judge on held-out scenes, before and after the autoencoder, and the latter's PSNR."""
    rng = np.random.default_rng(SEED)
    scenes = [scene(rng, digits, "captioned") for _ in range(count)]
    labels = torch.tensor([item.label for item in scenes])
    images = torch.from_numpy(np.stack([item.image for item in scenes]))
    decoded = torch.cat(
        [
            pipeline.vae.decode(pipeline.vae.encode(part).latent_dist.mean).sample
            for part in torch.split(scene_pixels(scenes), 50)
        ]
    )
    again = ((decoded.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    error = (again.float() - images.float()).pow(2).mean(dim=(1, 2, 3))
    return {
        "held_out_digits_recognised": float((judge.digits(images) == labels).float().mean()),
        "reconstructed_digits_recognised": float((judge.digits(again) == labels).float().mean()),
        "autoencoder_psnr_db": float((10.0 * torch.log10(255.0**2 / error)).mean()),
    }


def write_prompts(path: Path) -> None:
    """The demo's prompts: text, seed, settings and the digit expected."""
    drawn = draw_prompts(PROMPTS, SEED + 1)
    items = [
        {"prompt": text, "seed": at, "digit": digit, "name": NAMES[digit]}
        for at, (text, digit, _, _) in enumerate(drawn)
    ]
    settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "height": 64, "width": 64}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"settings": settings, "prompts": items}, indent=2) + "\n")


if __name__ == "__main__":
    main()
