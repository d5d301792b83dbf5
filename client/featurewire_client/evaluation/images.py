"""Folders of images with what is true of them: files in, records out, each read when it is needed.

CLASS/IMAGE.jpg                              a folder for each class, as torchvision's ImageFolder
images/NAME.jpg  annotations/NAME.png        classes of pixels, 255 where none is known (ADE20K)
images/NAME.jpg  depth/NAME.png or .npy      distances, 16-bit millimetres or floats in metres
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from featurewire_models import InputError
from featurewire_models.image_processor import UNREADABLE
from numpy.typing import NDArray
from PIL import Image

from featurewire_client.evaluation.classes import classes_of
from featurewire_client.evaluation.metrics import IGNORED
from featurewire_client.raw_input import IMAGE_SUFFIXES

MILLIMETRES = 1000.0  # of a 16-bit PNG, to one metre


@dataclass(frozen=True)
class Labelled:
    """An image's file and its class."""

    name: str
    image: Path
    label: int


@dataclass(frozen=True)
class Paired:
    """An image's file and that of its mask or depth map."""

    name: str
    image: Path
    truth: Path


def read_classes(data: Path, labels: Mapping[int, str]) -> list[Labelled]:
    """Every image below a folder for each class, of a model whose classes are `labels`.

    Which class a folder is: `classes_of`.

    Raises:
        InputError: there is no image, or a folder is none of the model's classes.
    """
    entries = sorted(_folder(data).iterdir())
    folders = [path for path in entries if path.is_dir() and not path.name.startswith(".")]
    classes = classes_of([folder.name for folder in folders], labels)
    found = [
        Labelled(str(path), path, label)
        for folder, label in zip(folders, classes, strict=True)
        for path in _images(folder)
    ]
    if not found:
        kinds = ", ".join(IMAGE_SUFFIXES)
        raise InputError(f"There is no image ({kinds}) in a folder for its class in {str(data)!r}.")
    return found


def read_pairs(data: Path, other: str, suffixes: tuple[str, ...]) -> list[Paired]:
    """Every image of `images/`, with the file of the same name in the folder `other`.

    Raises:
        InputError: there is no image, or one has no partner.
    """
    images = _folder(_folder(data) / "images")
    partners = _folder(data / other)
    pairs = []
    for path in _images(images):
        stem = partners / path.relative_to(images).with_suffix("")
        # not with_suffix: a name may have dots of its own
        truths = [stem.with_name(stem.name + suffix) for suffix in suffixes]
        truth = next((each for each in truths if each.is_file()), None)
        if truth is None:
            kinds = " or ".join(each.name for each in truths)
            raise InputError(f"{str(path)!r} has no {kinds} in {str(stem.parent)!r}.")
        pairs.append(Paired(str(path), path, truth))
    if not pairs:
        raise InputError(f"There is no image ({', '.join(IMAGE_SUFFIXES)}) in {str(images)!r}.")
    return pairs


def read_mask(path: Path, labels: Mapping[int, str], reduced: bool = False) -> NDArray[np.int64]:
    """Classes [height, width] of a grey or palette PNG.

    `reduced`: the file's 0 is none and its 1 the model's 0, as in ADE20K.

    Raises:
        InputError: it is none, or has a class that the model does not know.
    """
    mask = _pixels(path, ("L", "P", "I;16", "I"), "classes").astype(np.int64)
    if reduced:
        mask = np.where((mask == 0) | (mask == IGNORED), IGNORED, mask - 1)
    unknown = sorted(set(np.unique(mask).tolist()) - set(labels) - {IGNORED})
    if unknown:
        raise InputError(
            f"{str(path)!r} has the class {unknown[0]}, and the model knows {min(labels)} to"
            f" {max(labels)}, with {IGNORED} for none."
        )
    return mask


def read_depth(path: Path) -> NDArray[np.float32]:
    """Distances in metres [height, width] of a 16-bit PNG or a .npy; 0 where there is none.

    Raises:
        InputError: it is no such file, or has no distance above 0.
    """
    if path.suffix.lower() == ".npy":
        try:
            with path.open("rb") as file:  # numpy leaves one open that is no archive
                depth = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, SyntaxError, TokenError, BadZipFile) as error:
            raise InputError(f"{str(path)!r} holds no array that can be read.") from error
        if not isinstance(depth, np.ndarray) or depth.ndim != 2 or depth.dtype.kind not in "fiu":
            raise InputError(f"{str(path)!r} holds no numbers of shape [height, width].")
    else:
        depth = _pixels(path, ("I;16", "I"), "16-bit millimetres") / MILLIMETRES
    metres: NDArray[np.float32] = np.nan_to_num(depth.astype(np.float32), posinf=0.0, neginf=0.0)
    if not (metres > 0).any():
        raise InputError(f"{str(path)!r} has no distance above 0.")
    return metres


def check_size(record: Paired, image: Image.Image, truth: NDArray[Any]) -> None:
    """InputError unless the truth has a value for each pixel of the image."""
    if truth.shape != (image.height, image.width):
        height, width = truth.shape
        raise InputError(
            f"{str(record.truth)!r} is {width} x {height}, and its image"
            f" {image.width} x {image.height}."
        )


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise InputError(f"There is no folder {str(path)!r}.")
    return path


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def _pixels(path: Path, modes: tuple[str, ...], what: str) -> NDArray[Any]:
    try:
        with Image.open(path) as image:
            if image.mode in modes:
                return np.asarray(image)
            mode = image.mode
    except UNREADABLE as error:
        raise InputError(f"{str(path)!r} is no image that can be read.") from error
    raise InputError(f"{str(path)!r} holds no {what}: its pixels are {mode}.")
