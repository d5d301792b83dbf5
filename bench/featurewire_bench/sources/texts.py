"""Kinds of text to calibrate and test on: folders of files, and what every Python carries.

Two kinds need no data: the standard library's source code, and the Markdown and reStructuredText
of the installed packages' descriptions. The language reference that `help()` prints is a third
kind, to test on.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from featurewire_models.training.prose import SKIPPED_FOLDERS, standard_library

from featurewire_bench.errors import SampleError

SUFFIXES = frozenset((".txt", ".md", ".rst", ".py", ".pod", ".html", ".tex", ".org"))
SHORTEST = 500  # characters; shorter files are mostly boilerplate
MAX_FILE_BYTES = 4_000_000
SEED = 7


@dataclass(frozen=True)
class Kind:
    """A kind of text: its name, and its documents in a mixed but fixed order."""

    name: str
    documents: tuple[str, ...]


def read_folder(folder: Path) -> Kind:
    """Every text file below a folder.

    Raises:
        SampleError: the folder holds no text.
    """
    if not folder.is_dir():
        raise SampleError(f"{folder} is no folder of texts")
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES]
    return _mixed(folder.resolve().name, _readable(paths), folder)


def package_descriptions() -> Kind:
    """The long descriptions (Markdown or reStructuredText) of the installed packages."""
    found: dict[str, str] = {}
    for package in metadata.distributions():
        described = package.metadata
        body = described.get_payload() if hasattr(described, "get_payload") else None
        if isinstance(body, str) and len(body) >= SHORTEST:
            found[str(described["Name"])] = body
    return _mixed("Markdown", (found[name] for name in sorted(found)), Path("site-packages"))


def library_code() -> Kind:
    """The Python code of the standard library, without its tests and its help texts."""
    root = standard_library()
    skipped = SKIPPED_FOLDERS | {"pydoc_data", "lib2to3", "encodings"}
    paths = [
        path
        for path in sorted(root.rglob("*.py"))
        if skipped.isdisjoint(path.relative_to(root).parts[:-1])
    ]
    return _mixed("Python code", _readable(paths), root)


def language_reference() -> Kind:
    """The chapters of the Python language reference that `help()` shows, with it a third kind."""
    from pydoc_data.topics import topics

    chapters = (topics[name] for name in sorted(topics) if len(topics[name]) >= SHORTEST)
    return _mixed("reference manual", chapters, Path("pydoc_data"))


def _mixed(name: str, documents: Iterator[str], origin: Path) -> Kind:
    texts = list(dict.fromkeys(documents))
    if not texts:
        raise SampleError(f"{origin} holds no text files of {SHORTEST} characters or more")
    random.Random(SEED).shuffle(texts)
    return Kind(name, tuple(texts))


def _readable(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        if path.stat().st_size > MAX_FILE_BYTES:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if len(text) >= SHORTEST:
            yield text
