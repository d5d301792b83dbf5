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
    """The text itself; InputError if it is empty, or no text in UTF-8 (see `unencodable`)."""
    if not isinstance(text, str) or not text.strip():
        raise InputError("The prompt is empty; it must hold some text.")
    return checked_characters(text)


def checked_characters(text: str) -> str:
    """The text itself; InputError if UTF-8 cannot hold it."""
    if (found := unencodable(text)) is not None:
        raise InputError(f"The prompt cannot be written in UTF-8: {found}.")
    return text


def unencodable(text: str) -> str | None:
    """The first character that UTF-8 has no bytes for, and its place; None if there is none.

    Such is half of a surrogate pair, as Python makes of an invalid byte in an argument.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"character {error.start + 1} is {text[error.start]!a}"
    return None
