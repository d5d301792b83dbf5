"""The tails that a server holds: model names in, loaded tails and their profiles out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.profiles import Origin, ProfileSet
from featurewire.wire.status import Refusal
from featurewire_codec import ProfileError
from featurewire_models import (
    Model,
    ModelError,
    ModelInfo,
    SourceError,
    Tail,
    check_weights,
    describe,
    load_model,
    load_processor,
    load_tail,
)
from featurewire_models.split import check_split
from featurewire_models.text_stream import Vocabulary
from featurewire_models.weights import place

from featurewire_server.config import ServerConfig


@dataclass(frozen=True)
class Served:
    """One model as it is served."""

    info: ModelInfo
    splits: tuple[str, ...]
    default_split: str
    tails: dict[tuple[str, str], Tail]
    profiles: dict[tuple[str, str], ProfileSet] = field(default_factory=dict)
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)
    """Of the tasks that generate text, where the model's folder has a tokenizer."""

    def tail(self, task: str, split: str) -> Tail:
        return self.tails[task, split]


def _profiles(info: ModelInfo, split: str, task: str, given: list[ProfileSet]) -> ProfileSet:
    """The given set for this split point, else the one beside the model, else an empty one."""
    origin = Origin(info.name, info.revision, split, task)
    for profiles in given:
        found = profiles.origin
        same = found.model == info.name or found.revision == info.revision
        if same and (found.split, found.task) == (split, task):
            profiles.check(origin)
            return profiles
    folder = info.profile_folder(split, task)
    if folder is None:
        return ProfileSet(origin)
    profiles = ProfileSet.from_pretrained(folder)
    profiles.check(origin)
    return profiles


def serve(model: str, config: ServerConfig, profiles: dict[tuple[str, str], ProfileSet]) -> Served:
    """Loads one model for every task and split point that it is to serve.

    Raises:
        ModelError: no such model, or no such split point.
    """
    info = describe(model)
    splits = info.splits if config.split is None else (config.split,)
    tails: dict[tuple[str, str], Tail] = {}
    loaded: dict[Path, Tail | Model] = {}  # by folder: its tasks share the weights
    # the very revision that was described, should the hub's move on meanwhile
    placed = {"dtype": config.dtype, "device": config.device, "revision": info.revision}
    for task in info.tasks:
        folder = info.folders[task]
        if folder in loaded:
            held = loaded[folder].of_task(task)
        elif config.split is not None:
            held = loaded[folder] = load_tail(model, config.split, task, **placed)
        else:
            held = loaded[folder] = load_model(model, task, **placed)
        for split in splits:
            tails[task, split] = held.tail(split) if isinstance(held, Model) else held
    default = config.split or info.default_split
    return Served(info, splits, default, tails, profiles, _vocabularies(model, info))


def _vocabularies(model: str, info: ModelInfo) -> dict[str, Vocabulary]:
    if "generation" not in info.tasks:
        return {}
    try:
        processor: Any = load_processor(model, "generation")
    except ModelError:  # a folder without tokenizer: generations end by their length
        return {}
    return {"generation": processor}


def _check(
    config: ServerConfig, given: list[ProfileSet]
) -> dict[str, dict[tuple[str, str], ProfileSet]]:
    """Finds what is wrong with any of the models or profiles, before one's weights are read.

    Returns each model's profiles by task and split point.

    Raises:
        ModelError: a model, or two of one name.
        CodecError: a profile that is damaged, or fits nothing that is served.
    """
    place(config.dtype, config.device)
    half: Literal["tail", "whole"] = "tail" if config.split is not None else "whole"
    named: dict[str, str] = {}
    found: dict[str, dict[tuple[str, str], ProfileSet]] = {}
    for model in config.models:
        info = describe(model)
        if named.setdefault(info.name, model) != model:
            raise SourceError(
                f"{named[info.name]} and {model} are both named {info.name}, by which clients ask "
                "for them: rename a folder."
            )
        if config.split is not None:
            check_split(config.split, info.splits, info.name)
        found[model] = {
            (task, split): _profiles(info, split, task, given)
            for task in info.tasks
            for split in (info.splits if config.split is None else (config.split,))
        }
        for task in {folder: task for task, folder in info.folders.items()}.values():
            check_weights(model, half, config.split, task, info.revision)
    used = {profiles.folder for every in found.values() for profiles in every.values()}
    for profiles in given:
        if profiles.folder not in used:
            origin = profiles.origin
            raise ProfileError(
                f"the profiles in {profiles.folder} are of {origin.model}, {origin.split}, task "
                f"{origin.task}, which is not served: served are {', '.join(named)}"
                + (f" at {config.split}" if config.split is not None else "")
            )
    return found


class Tails:
    """Every model of a server, by name."""

    def __init__(self, config: ServerConfig) -> None:
        self._dtype = config.dtype
        given = [ProfileSet.from_pretrained(Path(folder)) for folder in config.profiles]
        profiles = _check(config, given)
        served = [serve(model, config, profiles[model]) for model in config.models]
        self.models = {model.info.name: model for model in served}

    def find(self, name: str) -> Served:
        """The model of that name.

        Raises:
            Refusal: the server does not hold it.
        """
        if name not in self.models:
            held = ", ".join(sorted(self.models))
            raise Refusal(
                "MODEL_UNKNOWN",
                f"this server does not serve {name!r}; it serves {held}",
                found=name,
                allowed=held,
            )
        return self.models[name]

    def find_profiles(self, digest: str) -> ProfileSet:
        """The set of profiles with that digest.

        Raises:
            Refusal: no split point here has it.
        """
        for model in self.models.values():
            for profiles in model.profiles.values():
                if digest and profiles.digest == digest:
                    return profiles
        raise Refusal(
            "PROFILE_UNKNOWN", f"no profiles with digest {digest[:12]!r} here", found=digest
        )

    def describe(self) -> list[pb.Model]:
        """What ListModels answers."""
        return [
            pb.Model(
                name=name,
                revision=model.info.revision,
                family=model.info.family,
                dtype=self._dtype,
                splits=model.splits,
                default_split=model.default_split,
                tasks=model.info.tasks,
                default_task=model.info.default_task,
                context_tokens=model.info.context or 0,
                profiles=[
                    pb.ProfileSet(
                        task=task, split=split, digest=held.digest, tensors=sorted(held.profiles)
                    )
                    for (task, split), held in model.profiles.items()
                    if held.digest
                ],
            )
            for name, model in self.models.items()
        ]
