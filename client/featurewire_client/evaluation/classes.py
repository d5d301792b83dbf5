"""Names of folders in, a model's class numbers out."""

import re
from collections.abc import Mapping, Sequence

from featurewire_models import InputError

_SYNSET = re.compile(r"n\d{8}")


def classes_of(names: Sequence[str], labels: Mapping[int, str]) -> list[int]:
    """The class of each folder, of a model whose classes are `labels`.

    A folder is named after a class (or one of the names that commas divide in it), is a class's
    number, or, where all are synsets and as many as the model's classes, has its place in their
    sorted order, which is ImageNet's.

    Raises:
        InputError: one is none of the model's classes, or may be several of them.
    """
    synsets = all(_SYNSET.fullmatch(name) for name in names)
    if names and synsets and len(names) == len(labels):
        return sorted(labels)
    known: dict[str, set[int]] = {}
    for number, label in labels.items():
        for name in (label, *label.split(",")):
            known.setdefault(_plain(name), set()).add(number)
    found: list[int] = []
    for name in names:
        numbers = known.get(_plain(name), set())
        if not numbers and name.isdecimal() and int(name) in labels:
            numbers = {int(name)}
        if len(numbers) != 1:
            why = "is a name of several of" if numbers else "is none of"
            few = ", ".join(repr(labels[number]) for number in sorted(labels)[:3])
            raise InputError(
                f"The folder {name!r} {why} the model's {len(labels)} classes: {few} ..."
            )
        found += numbers
    return found


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().casefold()
