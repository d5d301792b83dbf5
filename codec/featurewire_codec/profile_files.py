"""The two files of a profile's folder, as bytes that nobody has checked: settings and tensors."""

import json
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .errors import ProfileError

CONFIG, TENSORS = "config.json", "profile.safetensors"
_MAX_CONFIG_BYTES = 1 << 22


def read_profile_files(
    folder: Path, most_bytes: int
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read the config's object and the tensors, which may have at most so many bytes.

    Raises:
        ProfileError: a file is missing, too large, or not of its format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        for name, most in ((CONFIG, _MAX_CONFIG_BYTES), (TENSORS, most_bytes)):
            if (size := (folder / name).stat().st_size) > most:
                raise ProfileError(f"{folder / name} has {size} bytes, at most {most} are read")
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise ProfileError(f"{folder} holds no profile: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:  # element types that numpy lacks
        raise ProfileError(f"{folder / TENSORS} has elements of an unknown type") from error
    if not isinstance(config, dict):
        raise ProfileError(f"{folder / CONFIG} holds no object, but a {type(config).__name__}")
    return config, tensors


def damaged(folder: Path, error: Exception) -> ProfileError:
    """Return the error of a folder whose content is no profile's."""
    said = f"there is no {error}" if isinstance(error, KeyError) else str(error)
    return ProfileError(f"{folder} holds a damaged profile: {said}")
