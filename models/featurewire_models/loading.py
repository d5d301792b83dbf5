"""A model's name goes in; its head, its tail or the whole of it comes out."""

from __future__ import annotations

from pathlib import Path

from featurewire_models import llama
from featurewire_models.errors import ArchitectureError
from featurewire_models.halves import Head, Model, Tail
from featurewire_models.info import describe
from featurewire_models.split import check_split
from featurewire_models.weights import place


def load_head(
    model: str | Path,
    split: str | None = None,
    task: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
) -> Head:
    """The edge's half of a model; reads only its own weights.

    ``model`` is a bundled name, a local folder or a hub id; ``split`` and ``task`` are the model's
    defaults unless given. Raises a ModelError.
    """
    info = describe(model, revision)
    task = info.check_task(task)
    split = check_split(split or info.default_split, info.splits, info.name)
    where = place(dtype, device)
    match info.family:
        case "llama":
            return llama.load_llama_head(info, task, split, *where)
    raise ArchitectureError(f"There is no family {info.family}.")


def load_tail(
    model: str | Path,
    split: str | None = None,
    task: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
) -> Tail:
    """The cloud's half of a model; reads only its own weights. Arguments are load_head's."""
    info = describe(model, revision)
    task = info.check_task(task)
    split = check_split(split or info.default_split, info.splits, info.name)
    where = place(dtype, device)
    match info.family:
        case "llama":
            return llama.load_llama_tail(info, task, split, *where)
    raise ArchitectureError(f"There is no family {info.family}.")


def load_model(
    model: str | Path,
    task: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
) -> Model:
    """The whole model: the unsplit reference; its ``.head(split)`` and ``.tail(split)`` share it."""
    info = describe(model, revision)
    task = info.check_task(task)
    where = place(dtype, device)
    match info.family:
        case "llama":
            return llama.load_llama(info, task, *where)
    raise ArchitectureError(f"There is no family {info.family}.")
