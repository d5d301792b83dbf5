"""What a person gives on a command line or in a folder: a name in, a text or an image out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from featurewire_models import InputError
from featurewire_models.image_processor import UNREADABLE
from PIL import Image

IMAGE_TASKS = ("classification", "segmentation", "depth", "features")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
TEXT_SUFFIXES = (".txt", ".md", ".rst")

# Far above any prompt; a file over it is not meant as one.
_MAX_TEXT_BYTES = 64 * 1024 * 1024


def read_input(given: str, task: str) -> str | Image.Image:
    """The image in the named file for an image task; else the text, or the text in the file.

    Raises:
        InputError: the file is not there, or holds no image or no text.
    """
    if task in IMAGE_TASKS:
        return read_image(Path(given))
    path = Path(given)
    if path.suffix in TEXT_SUFFIXES and "\n" not in given:
        return read_text(path)
    return given


def read_image(path: Path) -> Image.Image:
    """The image as RGB.

    Raises:
        InputError: there is no such file, or it holds no image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise InputError(f"There is no image file {str(path)!r}.") from None
    except UNREADABLE as error:
        formats = ", ".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
        message = f"The file {str(path)!r} holds no image that can be read ({formats})."
        raise InputError(message) from error


def read_text(path: Path) -> str:
    """The file's text.

    Raises:
        InputError: there is no such file, it is too large, or no UTF-8 text.
    """
    try:
        if path.stat().st_size > _MAX_TEXT_BYTES:
            raise InputError(f"The file {str(path)!r} is larger than {_MAX_TEXT_BYTES} bytes.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"The text file {str(path)!r} cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The file {str(path)!r} holds no UTF-8 text.") from error


def sample_input(task: str) -> str | Image.Image:
    """An input of the ordinary kind, for measuring where none is given."""
    if task in IMAGE_TASKS:
        ramp = np.linspace(0, 255, 224, dtype=np.uint8)
        shades = np.stack([np.broadcast_to(ramp, (224, 224))] * 3, axis=-1)
        return Image.fromarray(shades)
    if task == "text-to-image":
        return "a red seven on a blue background"
    return "Return the number of items in the list, or raise an error when the list is empty."


def input_files(data: Path, task: str) -> list[Path]:
    """A folder's files of a task's kind in the names' order, or the one file.

    Raises:
        InputError: there is none.
    """
    suffixes = IMAGE_SUFFIXES if task in IMAGE_TASKS else TEXT_SUFFIXES
    candidates = [data] if data.is_file() else sorted(data.rglob("*"))
    files = [path for path in candidates if path.suffix.lower() in suffixes]
    if not files:
        raise InputError(f"There is no file of the kinds {', '.join(suffixes)} in {str(data)!r}.")
    return files


def read_folder(data: Path, task: str, limit: int) -> Iterator[str | Image.Image]:
    """Up to `limit` inputs from a folder's files, or from one file, in the names' order.

    Images for image tasks; the lines of text files for text to image; else whole texts.

    Raises:
        InputError: there is nothing of that kind, or a file cannot be read.
    """
    count = 0
    for path in input_files(data, task):
        if task in IMAGE_TASKS:
            found: list[str | Image.Image] = [read_image(path)]
        elif task == "text-to-image":
            found = [line for line in read_text(path).splitlines() if line.strip()]
        else:
            found = [read_text(path)]
        for one in found:
            if count == limit:
                return
            count += 1
            yield one
