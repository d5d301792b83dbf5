"""Feature files: `.npy` and `.safetensors` in, samples [tokens, channels] out, and back.

An array is one sample [tokens, channels], or samples [samples, tokens, channels], or samples on a
grid [samples, rows, columns, channels]. A safetensors file may hold several, by name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import FeatureError
from .feature import as_array

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples float32[tokens, channels] of one array of a file, and their grid if any."""

    name: str
    arrays: tuple[NDArray[np.float32], ...]
    grid: tuple[int, int] | None


def read_samples(
    path: Path, name: str | None = None, grid: tuple[int, int] | None = None
) -> list[Samples]:
    """Read every array of a file, or the one of that name; `grid` is for arrays without their own.

    Raises:
        FeatureError: no such file or tensor, no such format, or an array that is no feature.
    """
    read = []
    for key, array in _read_arrays(path, name).items():
        title = f"{path}:{key}" if key else str(path)
        shape = tuple(array.shape)
        if not 2 <= len(shape) <= 4 or 0 in shape:
            raise FeatureError(f"{title} has shape {shape}, two to four dimensions are read")
        own_grid = (shape[1], shape[2]) if len(shape) == 4 else grid
        samples = array.reshape(shape[0] if len(shape) > 2 else 1, -1, shape[-1])
        try:
            arrays = tuple(as_array(sample) for sample in samples)
        except FeatureError as error:
            raise FeatureError(f"{title}: {error}") from error
        read.append(Samples(title, arrays, own_grid))
    return read


def write_feature(path: Path, feature: NDArray[np.float32]) -> None:
    """Write one feature as `.npy`, or as the tensor `feature` of a `.safetensors` file.

    Raises:
        FeatureError: another ending.
    """
    check_suffix(path)
    if path.suffix == ".npy":
        np.save(path, feature)
    else:
        from safetensors.numpy import save_file

        save_file({"feature": feature}, path)


def check_suffix(path: Path) -> None:
    """Raise FeatureError unless it is a feature file's name."""
    if path.suffix not in (".npy", ".safetensors"):
        raise FeatureError(f"{path} ends in neither .npy nor .safetensors")


def _read_arrays(path: Path, name: str | None) -> "dict[str, NDArray[Any] | torch.Tensor]":
    try:
        if path.suffix == ".npy":
            if name:
                raise FeatureError(f"{path} has no named tensors, {name!r} was asked for")
            return {"": np.load(path, allow_pickle=False)}
        check_suffix(path)
        from safetensors import safe_open  # torch reads bfloat16, which numpy lacks

        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if name and name not in names:
                raise FeatureError(f"{path} has no tensor {name!r}, only {', '.join(names)}")
            return {key: file.get_tensor(key) for key in ([name] if name else names)}
    except FeatureError:
        raise
    except Exception as error:  # numpy and safetensors raise whatever the damage leads to
        raise FeatureError(f"{path} cannot be read: {error}") from error
