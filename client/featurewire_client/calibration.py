"""Profiles of one's own data: files in, the head's features, a set of profiles out."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from featurewire.wire.profiles import Origin, ProfileSet
from featurewire_codec import Profile
from featurewire_models import InputError, describe, load_head, load_processor, load_tail
from PIL import Image

from featurewire_client.output_error import OutputError
from featurewire_client.raw_input import read_folder
from featurewire_client.task_metric import TaskMetric

# Characters of one piece of a long text, for each token of the context: a piece that turns out
# too long is halved.
_CHARACTERS_PER_TOKEN = 3
_DEFAULT_CONTEXT = 512
_SHORTEST = 32


def calibrate(
    model: str,
    split: str | None,
    task: str | None,
    data: Path,
    limit: int,
    begin: Callable[[str], None],
    task_aware: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
) -> ProfileSet:
    """Runs the head over the data and learns a profile for each of its tensors.

    Args:
        data: a folder of images or texts, or one file.
        limit: inputs to run at most.
        begin: called before each input with what is being done.
        task_aware: weight the features by what the task minds, from gradients through the tail,
            where the tail's own outputs on held-out samples are better for it.
        dtype, device: what head and tail compute in and on.

    Raises:
        ModelError: no such model, split point or task, or data that it does not take; a tail that
            cannot be differentiated, with `task_aware`.
        CodecError: the features are too few, or no numbers.
    """
    info = describe(model)
    chosen = info.check_task(task)
    head = load_head(model, split, chosen, dtype, device)
    processor = load_processor(model, chosen)
    metric = error = None
    if task_aware:
        tail = load_tail(model, head.split, chosen, dtype, device)
        metric, error = TaskMetric(tail), OutputError(tail)
    samples: dict[str, list[torch.Tensor]] = {}
    grids: dict[str, tuple[int, int]] = {}
    for inputs in _inputs(processor, info.context, data, chosen, limit):
        begin("head and gradients" if metric else "head")
        with torch.inference_mode():
            features = head(inputs)
        for name, tensor in features.tensors.items():
            samples.setdefault(name, []).extend(tensor.cpu())
        grids.update(features.grids)
        if metric is not None and error is not None:
            metric.add(features)
            error.add(features)
    begin("calibration")
    profiles = {
        name: Profile.calibrate(
            tensors,
            grid=grids.get(name),
            metric=metric.metric(name) if metric else None,
            task_error=functools.partial(error.measure, name) if error else None,
        )
        for name, tensors in samples.items()
    }
    return ProfileSet(Origin(info.name, info.revision, head.split, chosen), profiles)


def report(learned: ProfileSet) -> dict[str, Any]:
    """By tensor: what calibration measured on the samples that it held out."""
    return {name: profile.report for name, profile in learned.profiles.items()}


def _inputs(
    processor: Any, context: int | None, data: Path, task: str, limit: int
) -> Iterator[dict[str, torch.Tensor]]:
    count = 0
    for number, raw in enumerate(read_folder(data, task, limit)):
        if task == "text-to-image":  # one noise for all would be learned with them
            yield processor.inputs(raw, seed=number)
            continue
        pieces = [raw]
        if isinstance(raw, str):
            pieces = list(_pieces(raw, _CHARACTERS_PER_TOKEN * (context or _DEFAULT_CONTEXT)))
        for piece in pieces:
            for inputs in _fitting(processor, piece):
                if count == limit:
                    return
                count += 1
                yield inputs


def _pieces(text: str, characters: int) -> Iterator[str]:
    for start in range(0, len(text), characters):
        piece = text[start : start + characters]
        if len(piece.strip()) >= _SHORTEST:
            yield piece


def _fitting(processor: Any, raw: str | Image.Image) -> Iterator[dict[str, torch.Tensor]]:
    """The input, or the halves of a text that is longer than the context."""
    try:
        yield processor.inputs(raw)
    except InputError:
        if not isinstance(raw, str) or len(raw) < 2 * _SHORTEST:
            raise
        middle = len(raw) // 2
        for half in (raw[:middle], raw[middle:]):
            yield from _fitting(processor, half)
