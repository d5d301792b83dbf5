"""Profiles of one's own data: files in, the head's features, a set of profiles out."""

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from featurewire.wire.profiles import Origin, ProfileSet
from featurewire_codec import Profile
from featurewire_models import (
    Features,
    InputError,
    ModelError,
    PlacementError,
    Tail,
    check_weights,
    describe,
    load_head,
    load_processor,
    load_tail,
)
from PIL import Image

from featurewire_client.evaluation.agreement import make_agreement
from featurewire_client.output_error import OutputError
from featurewire_client.profile_quality import QUALITIES_DB, ProfileQuality, leave_out, measure
from featurewire_client.progress import Begin
from featurewire_client.raw_input import IMAGE_TASKS, input_files, read_folder
from featurewire_client.task_metric import TaskMetric

# Characters of one piece of a long text, for each token of the context: a piece that turns out
# too long is halved.
_CHARACTERS_PER_TOKEN = 3
_DEFAULT_CONTEXT = 512
_SHORTEST = 32
_WITHOUT_TAIL = "With --no-tail, and without --task-aware, the head alone makes a profile."


def calibrate(
    model: str,
    split: str | None,
    task: str | None,
    data: Path,
    limit: int,
    begin: Begin,
    qualities: Sequence[float] = QUALITIES_DB,
    with_tail: bool = True,
    task_aware: bool = False,
    dtype: str = "float32",
    device: str = "cpu",
) -> tuple[ProfileSet, ProfileQuality]:
    """Runs the head over the data, learns a profile for each of its tensors, and measures them.

    What is measured on are inputs that were left out (`leave_out`): no profile has seen them, and
    none is fitted again with them afterwards. The figures go into the profiles' reports too, where
    those of the task are of all tensors together.

    Args:
        data: a folder of images or texts, or one file.
        limit: inputs to run at most.
        begin: called with what is being done, and how often, before each input.
        qualities: SNRs to measure at, in dB.
        with_tail: measure the task too, on the outputs of the tail, which is held beside the head;
            always with `task_aware`.
        task_aware: weight the features by what the task minds, from gradients through the tail,
            where the tail's own outputs on held-out samples are better for it.
        dtype, device: what head and tail compute in and on.

    Raises:
        ModelError: no such model, split point or task, or data that it does not take; a tail that
            cannot be read, or that cannot be differentiated, with `task_aware`.
        CodecError: the features are too few, or no numbers.
    """
    info = describe(model)
    chosen = info.check_task(task)
    next(read_folder(data, chosen, 1), None)  # what cannot be read, before any weights are
    tail = None
    check_weights(model, "head", split, chosen)
    if with_tail or task_aware:
        with _saying_how_to_do_without():
            check_weights(model, "tail", split, chosen)
            tail = load_tail(model, split, chosen, dtype, device)
    head = load_head(model, split, chosen, dtype, device)
    processor = load_processor(model, chosen)
    given: Iterable[dict[str, torch.Tensor]]
    given = _inputs(processor, info.context, data, chosen, limit)
    if chosen in IMAGE_TASKS:  # read one after the other, as they may be large
        count = min(limit, len(input_files(data, chosen)))
    else:
        given = list(given)
        count = len(given)
    taken = []
    for inputs in given:
        begin("head", count)
        with torch.inference_mode():
            features = head(inputs)
        tensors = {name: tensor.cpu() for name, tensor in features.tensors.items()}
        taken.append(replace(features, tensors=tensors))
    if not taken:
        raise InputError(f"{str(data)!r} holds no text to learn from.")
    fitted, left_out = leave_out(taken)
    begin("calibration", 1)
    profiles = _fit(fitted, tail if task_aware else None)
    learned = ProfileSet(Origin(info.name, info.revision, head.split, chosen), profiles)
    rows = []
    if left_out:
        agreement = make_agreement(chosen, processor)
        with _saying_how_to_do_without():
            rows = measure(learned, left_out, qualities, tail, agreement, begin)
    quality = ProfileQuality(len(taken), len(left_out), rows)
    told = {
        name: replace(profile, report=profile.report | {"left_out": quality.as_dict([name])})
        for name, profile in profiles.items()
    }
    return replace(learned, profiles=told), quality


@contextlib.contextmanager
def _saying_how_to_do_without() -> Iterator[None]:
    """Where the tail is not to be had here, a ModelError that names the option."""
    try:
        yield
    except ModelError as error:
        raise type(error)(f"{error} {_WITHOUT_TAIL}") from error
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):  # torch's own
            raise
        raise PlacementError(f"There is no memory for the tail too. {_WITHOUT_TAIL}") from error


def _fit(inputs: Sequence[Features], tail: Tail | None) -> dict[str, Profile]:
    """A profile for each tensor; weighted by what the task minds, with a tail."""
    samples: dict[str, list[torch.Tensor]] = {}
    grids: dict[str, tuple[int, int]] = {}
    metric, error = (TaskMetric(tail), OutputError(tail)) if tail else (None, None)
    for features in inputs:
        for name, tensor in features.tensors.items():
            samples.setdefault(name, []).extend(tensor)
        grids.update(features.grids)
        if metric and error:
            metric.add(features)
            error.add(features)
    return {
        name: Profile.calibrate(
            tensors,
            grid=grids.get(name),
            metric=metric.metric(name) if metric else None,
            task_error=functools.partial(error.measure, name) if error else None,
        )
        for name, tensors in samples.items()
    }


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
        # what is left of a long text may be too short to say anything; a short text is one
        if len(piece.strip()) >= _SHORTEST or (len(text) <= characters and piece.strip()):
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
