"""A task's result for a person: as one line, as JSON, as a file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from featurewire_models import InputError
from numpy.typing import NDArray
from PIL import Image

# Lists longer than this stay out of the line that a person reads.
_SHOWN = 5


def as_text(value: Any) -> str:
    """One line: the label, the text, or what the mask, map, image or vector is like."""
    if isinstance(value, Image.Image):
        return f"image of {value.width} x {value.height}"
    if isinstance(value, np.ndarray):
        kind = "classes" if value.dtype.kind in "iu" else "values"
        shape = " x ".join(map(str, value.shape))
        return f"{shape} {kind} from {value.min():.4g} to {value.max():.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {as_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple) and len(value) > _SHOWN:
        return f"{len(value)} values"
    return str(value)


def as_json(value: Any) -> Any:
    """The value in JSON's types; images as rows of pixels."""
    if isinstance(value, Image.Image):
        return np.asarray(value).tolist()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value


def write(value: Any, path: Path) -> None:
    """Writes .png (an image, a mask, a depth map), .npy (an array) or .json (anything).

    Raises:
        InputError: the value does not fit the file's suffix, or the file cannot be written.
    """
    array = value if isinstance(value, np.ndarray) else None
    try:
        if path.suffix == ".json":
            path.write_text(json.dumps(as_json(value)) + "\n")
        elif path.suffix == ".npy" and array is not None:
            np.save(path, array)
        elif path.suffix == ".png" and isinstance(value, Image.Image):
            value.save(path)
        elif path.suffix == ".png" and array is not None and array.ndim == 2:
            picture(array).save(path)
        else:
            raise InputError(
                f"A {type(value).__name__} cannot be written as {path.name!r}:"
                " images, masks and depth maps as .png, arrays as .npy, anything as .json."
            )
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written: {error}.") from error


def picture(array: NDArray[Any]) -> Image.Image:
    """A mask in distinct colours, or a map in shades of grey from its least to its greatest."""
    if array.dtype.kind in "iub":
        hues = (np.arange(256) * 67) % 256
        palette = np.stack([hues, np.full(256, 200), np.full(256, 255)], axis=-1).astype(np.uint8)
        palette[0] = 0
        return Image.fromarray(palette[array.astype(np.uint8)], mode="HSV").convert("RGB")
    low, high = float(array.min()), float(array.max())
    shades = (array - low) / (high - low) if high > low else np.zeros_like(array)
    return Image.fromarray((255 * shades).astype(np.uint8))
