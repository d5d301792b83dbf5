"""The held-out inputs that lie beside each bundled model: files in, records out.

tiny-llama3/samples/     prompt.txt, passage.txt
tiny-dinov2/samples/     classification/{labels.json, 00.png ...}, segmentation/{00.png,
                         00_mask.png ...}, depth/{00.png, 00_depth.png ...}
tiny-sd3/samples/        prompts.json, judge.safetensors
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from featurewire_models import describe
from PIL import Image

from featurewire_bench.errors import SampleError

Number = TypeVar("Number", np.uint8, np.float32)

DEPTH_UNITS = 10_000  # of a *_depth.png, to one unit of depth


@dataclass(frozen=True)
class Scene:
    """An image, uint8 [height, width, 3], and what is true of it, where that is known.

    `mask` holds classes, uint8 [height, width]; `depth` distances, float32 [height, width].
    """

    image: npt.NDArray[np.uint8]
    label: int | None = None
    mask: npt.NDArray[np.uint8] | None = None
    depth: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Prompt:
    """A text to make an image of, the noise's seed, the settings, and the digit to be seen."""

    text: str
    seed: int
    steps: int
    guidance: float
    digit: int


def samples_folder(model: str) -> Path:
    """The samples beside a model; SampleError where there are none."""
    folder = describe(model).path / "samples"
    if not folder.is_dir():
        raise SampleError(f"{model} has no samples folder; the bundled models have one")
    return folder


def read_text(model: str, name: str) -> str:
    """One text file of the samples."""
    return _existing(samples_folder(model) / name).read_text(encoding="utf-8").strip()


def labelled_scenes(model: str) -> list[Scene]:
    """Images for classification."""
    folder = samples_folder(model) / "classification"
    names = {name: label for label, name in class_names(model, "classification").items()}
    labels = read_json(folder / "labels.json")
    return [Scene(read_image(folder / file), label=names[labels[file]]) for file in sorted(labels)]


def masked_scenes(model: str) -> list[Scene]:
    """Images for segmentation."""
    folder = samples_folder(model) / "segmentation"
    return [
        Scene(read_image(_partner(mask, "_mask")), mask=_array(mask, np.uint8))
        for mask in sorted(folder.glob("*_mask.png"))
    ]


def measured_scenes(model: str) -> list[Scene]:
    """Images for depth."""
    folder = samples_folder(model) / "depth"
    return [
        Scene(
            read_image(_partner(depth, "_depth")),
            depth=_array(depth, np.float32) / np.float32(DEPTH_UNITS),
        )
        for depth in sorted(folder.glob("*_depth.png"))
    ]


def image_prompts(model: str) -> list[Prompt]:
    """Prompts for text to image."""
    content = read_json(samples_folder(model) / "prompts.json")
    settings = content["settings"]
    return [
        Prompt(
            text=item["prompt"],
            seed=item["seed"],
            steps=settings["num_inference_steps"],
            guidance=settings["guidance_scale"],
            digit=item["digit"],
        )
        for item in content["prompts"]
    ]


def class_names(model: str, task: str) -> Mapping[int, str]:
    """The names of a task's classes, by number, from the model's configuration."""
    config = read_json(describe(model).folders[task] / "config.json")
    return {int(label): name for label, name in config["id2label"].items()}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; SampleError where there is none."""
    content = json.loads(_existing(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise SampleError(f"{path} holds no JSON object")
    return content


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """An image file as uint8 [height, width, 3]."""
    with Image.open(_existing(path)) as image:
        return np.asarray(image.convert("RGB"))


def _array(path: Path, dtype: type[Number]) -> npt.NDArray[Number]:
    with Image.open(path) as image:
        return np.asarray(image, dtype)


def _partner(path: Path, ending: str) -> Path:
    return path.with_name(path.name.replace(ending, ""))


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise SampleError(f"{path} is missing; the bundled models' samples hold it")
    return path
