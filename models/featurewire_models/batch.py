"""One item or several in, a list of them out; and answers back to one or several."""

from __future__ import annotations

from typing import Any, TypeVar

from featurewire_models.errors import InputError

Item = TypeVar("Item")


def several(raw: Any) -> list[Any]:
    """The items of a list, or the one item given; InputError if there is none."""
    items = list(raw) if isinstance(raw, list | tuple) else [raw]
    if not items:
        raise InputError("The inputs are empty; at least one text or image is needed.")
    return items


def one_or_all(answers: list[Item]) -> Item | list[Item]:
    """The inverse: one answer by itself, several as a list."""
    return answers[0] if len(answers) == 1 else answers


def checked_text(text: str) -> str:
    """The text itself; InputError if it is empty."""
    if not isinstance(text, str) or not text.strip():
        raise InputError("The prompt is empty; it must hold some text.")
    return text
