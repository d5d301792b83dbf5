"""Texts to make images or embeddings of: a file of one a line in, records out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurewire_models import InputError

from featurewire_client.evaluation.lines import json_lines, one_file, text_lines


@dataclass(frozen=True)
class Prompt:
    """A text, what is not to be seen, and the noise's seed; `name` is for messages."""

    name: str
    text: str
    negative: str = ""
    seed: int = 0


def read_prompts(data: Path, seed: int = 0) -> list[Prompt]:
    """Every prompt of a .jsonl or .txt file, or of the only one in a folder.

    A line of .jsonl holds `prompt` and, if wanted, `negative_prompt` and `seed`; one of .txt is a
    prompt. A prompt without a seed of its own has `seed` plus its place, from 0.

    Raises:
        InputError: there is no such file, or a line holds no prompt.
    """
    path = one_file(data, (".jsonl", ".txt"))
    if path.suffix.lower() == ".txt":
        lines: list[tuple[int, dict[str, Any]]] = [
            (number, {"prompt": line}) for number, line in text_lines(path)
        ]
    else:
        lines = list(json_lines(path))
    return [
        _prompt(f"{path.name}, line {number}", line, seed + place)
        for place, (number, line) in enumerate(lines)
    ]


def _prompt(where: str, line: dict[str, Any], seed: int) -> Prompt:
    text, negative = line.get("prompt"), line.get("negative_prompt") or ""
    seed = line.get("seed", seed)
    if not isinstance(text, str) or not text.strip() or not isinstance(negative, str):
        raise InputError(f"{where} holds no prompt, or a negative_prompt that is no text.")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise InputError(f"{where} has seed {seed!r}, which is no whole number.")
    return Prompt(where, text, negative, seed)
