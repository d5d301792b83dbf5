"""What the bundled models' profiles are learned from: ordinary files for `featurewire calibrate`.

Prose of the training modules, scenes of the training digits and captions: nothing that the models
were held out from, so that the demo's inputs stay unseen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from featurewire_models.training.diffusion_text import all_captions
from featurewire_models.training.digits import load_digits, scene
from featurewire_models.training.prose import read_corpus, split_corpus

SCENES = 384
SEED = 11


def main(arguments: list[str] | None = None) -> None:
    """Write text/, images/ and prompts.txt into a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m featurewire_models.training.calibration_data",
        description="Write the calibration data of the bundled models. Needs scikit-learn.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    out: Path = parser.parse_args(arguments).out
    write_texts(out / "text")
    write_scenes(out / "images")
    (out / "prompts.txt").write_text(prompts())
    print(f"wrote {out}")


def write_texts(folder: Path) -> None:
    """One file of prose for each module that the text model was trained on, in a mixed order."""
    folder.mkdir(parents=True, exist_ok=True)
    training, _ = split_corpus(read_corpus())
    order = np.random.default_rng(SEED).permutation(len(training))
    for place, index in enumerate(order):
        (folder / f"{place:04}.txt").write_text(training[index].text, encoding="utf-8")


def write_scenes(folder: Path) -> None:
    """Scenes of one digit and of several, in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    training, _ = load_digits()
    rng = np.random.default_rng(SEED)
    for index in range(SCENES):
        image = scene(rng, training, "single" if index % 2 else "crowded").image
        Image.fromarray(image).save(folder / f"{index:04}.png")


def prompts() -> str:
    """Every caption once, one a line, in a mixed order."""
    captions = sorted(all_captions())
    order = np.random.default_rng(SEED).permutation(len(captions))
    return "".join(f"{captions[index]}\n" for index in order)


if __name__ == "__main__":
    main()
