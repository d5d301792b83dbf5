"""Questions with choices in ARC's format: one JSON object a line in, records out.

Both layouts that ARC comes in are read (Clark et al. 2018, "Think you have Solved Question
Answering? Try ARC"):

{"id": "1", "question": {"stem": "...", "choices": [{"text": "...", "label": "A"}, ...]},
 "answerKey": "A"}
{"id": "1", "question": "...", "choices": {"text": ["..."], "label": ["A"]}, "answerKey": "A"}
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurewire_models import InputError

from featurewire_client.evaluation.lines import json_lines, one_file


@dataclass(frozen=True)
class Question:
    """A question, its choices, and the index of the right one; `name` is for messages."""

    name: str
    text: str
    choices: tuple[str, ...]
    answer: int


def read_questions(data: Path) -> list[Question]:
    """Every question of a .jsonl file, or of the only one in a folder.

    Raises:
        InputError: there is no such file, or a line is no question.
    """
    path = one_file(data, (".jsonl",))
    return [_question(f"{path.name}, line {number}", line) for number, line in json_lines(path)]


def _question(where: str, line: dict[str, Any]) -> Question:
    try:
        asked, key = line["question"], line["answerKey"]
        if isinstance(asked, dict):
            text, pairs = (
                asked["stem"],
                [(each["label"], each["text"]) for each in asked["choices"]],
            )
        else:
            listed = line["choices"]
            text, pairs = asked, list(zip(listed["label"], listed["text"], strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{where} is no question: it needs question, choices with label and text, and answerKey"
            f" ({type(error).__name__}: {error})."
        ) from error
    if not all(isinstance(each, str) and each.strip() for each in _texts(text, pairs)):
        raise InputError(f"{where} has an empty question or choice, or one that is no text.")
    labels = [label for label, _ in pairs]
    if labels.count(key) != 1 or len(pairs) < 2:
        raise InputError(f"{where} has answerKey {key!r}, and its choices are labelled {labels}.")
    return Question(where, text, tuple(choice for _, choice in pairs), labels.index(key))


def _texts(text: Any, pairs: list[tuple[Any, Any]]) -> Iterator[Any]:
    yield text
    yield from (choice for _, choice in pairs)
