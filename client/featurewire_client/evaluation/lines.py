"""Files of a record a line: a file or a folder in, numbered lines out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featurewire_models import InputError

from featurewire_client.raw_input import read_text


def one_file(data: Path, suffixes: tuple[str, ...]) -> Path:
    """The file itself, or the only file of these kinds in a folder.

    Raises:
        InputError: there is none, or several, of which a person has to name one.
    """
    kinds = " or ".join(suffixes)
    if data.is_file():
        if data.suffix.lower() not in suffixes:
            raise InputError(f"{str(data)!r} is no {kinds} file.")
        return data
    if not data.is_dir():
        raise InputError(f"There is no file or folder {str(data)!r}.")
    found = sorted(path for path in data.iterdir() if path.suffix.lower() in suffixes)
    if not found:
        raise InputError(f"There is no {kinds} file in {str(data)!r}.")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"{str(data)!r} holds {names}; give one of them as --data.")
    return found[0]


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line that is not blank.

    Raises:
        InputError: the file cannot be read, or has no such line.
    """
    lines = [
        (number, line.strip())
        for number, line in enumerate(read_text(path).split("\n"), start=1)
        if line.strip()
    ]
    if not lines:
        raise InputError(f"The file {str(path)!r} is empty.")
    yield from lines


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The same of lines that hold a JSON object each.

    Raises:
        InputError: as above, or a line holds none.
    """
    for number, line in text_lines(path):
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path.name}, line {number} is not valid JSON ({error}).") from error
        if not isinstance(content, dict):
            raise InputError(f"{path.name}, line {number} holds no JSON object.")
        yield number, content
