"""A model's name goes in; its head, its tail or the whole of it comes out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from featurewire_models.bert import load_bert, load_bert_head, load_bert_tail
from featurewire_models.dinov2 import load_dinov2, load_dinov2_head, load_dinov2_tail
from featurewire_models.halves import Head, Model, Tail
from featurewire_models.info import Family, ModelInfo, describe
from featurewire_models.llama import load_llama, load_llama_head, load_llama_tail
from featurewire_models.split import check_split
from featurewire_models.weights import LOOKED_UP, Placement, place


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
    return _head(model, split, task, place(dtype, device), revision)


def load_tail(
    model: str | Path,
    split: str | None = None,
    task: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
) -> Tail:
    """The cloud's half of a model; reads only its own weights. Arguments are load_head's."""
    return _tail(model, split, task, place(dtype, device), revision)


def load_model(
    model: str | Path,
    task: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
) -> Model:
    """The whole model, the unsplit reference; ``.head(split)`` and ``.tail(split)`` share it."""
    return _whole(model, task, place(dtype, device), revision)


def check_weights(
    model: str | Path,
    half: Literal["head", "tail", "whole"],
    split: str | None = None,
    task: str | None = None,
    revision: str | None = None,
) -> None:
    """Finds every tensor that a half has, in its shape, and reads none.

    What is to load several halves finds out first whether all of them are there. A hub's files are
    downloaded. Raises the ModelErrors that loading raises.
    """
    match half:
        case "head":
            _head(model, split, task, LOOKED_UP, revision)
        case "tail":
            _tail(model, split, task, LOOKED_UP, revision)
        case "whole":
            _whole(model, task, LOOKED_UP, revision)


class _Loaders(NamedTuple):
    """A family's functions."""

    head: Callable[[ModelInfo, str, str, Placement], Head]
    tail: Callable[[ModelInfo, str, str, Placement], Tail]
    whole: Callable[[ModelInfo, str, Placement], Model]


def _loaders(family: Family) -> _Loaders:
    match family:
        case "llama":
            return _Loaders(load_llama_head, load_llama_tail, load_llama)
        case "dinov2" | "vit":
            return _Loaders(load_dinov2_head, load_dinov2_tail, load_dinov2)
        case "bert":
            return _Loaders(load_bert_head, load_bert_tail, load_bert)
        case "sd3":
            with diffusers_unheard():
                from featurewire_models.sd3 import load_sd3, load_sd3_head, load_sd3_tail

            return _Loaders(load_sd3_head, load_sd3_tail, load_sd3)


def _head(
    model: str | Path,
    split: str | None,
    task: str | None,
    placement: Placement,
    revision: str | None,
) -> Head:
    info = describe(model, revision)
    task, split = info.check_task(task), _split(info, split)
    return _loaders(info.family).head(info, task, split, placement)


def _tail(
    model: str | Path,
    split: str | None,
    task: str | None,
    placement: Placement,
    revision: str | None,
) -> Tail:
    info = describe(model, revision)
    task, split = info.check_task(task), _split(info, split)
    return _loaders(info.family).tail(info, task, split, placement)


def _whole(
    model: str | Path, task: str | None, placement: Placement, revision: str | None
) -> Model:
    info = describe(model, revision)
    return _loaders(info.family).whole(info, info.check_task(task), placement)


def _split(info: ModelInfo, split: str | None) -> str:
    return check_split(split or info.default_split, info.splits, info.name)


@contextmanager
def diffusers_unheard() -> Iterator[None]:
    """For importing diffusers, only when it is needed as it takes seconds.

    It makes transformers warn that torchvision is absent, which nothing here uses.
    """
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
