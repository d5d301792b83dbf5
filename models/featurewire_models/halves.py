"""The two halves of a split model and the whole: what every family's classes can be called with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from featurewire_models.errors import InputError, TaskError
from featurewire_models.features import Features
from featurewire_models.info import ModelInfo

# Of a prompt, for one pass: a GPU computes so many in hardly more time than it takes to ask it for
# one, and a CPU goes on with the next ones while these are on their way.
PASS_TOKENS, GPU_PASS_TOKENS = 64, 1024


@dataclass
class Cache:
    """What one half of a causal model remembers of one batch: its blocks' keys and values.

    ``states`` is the half's transformers cache; ``length`` counts the tokens seen so far, which a
    half without blocks could not tell from it.
    """

    states: Any
    length: int = 0


@dataclass(frozen=True)
class Half(ABC):
    """What a head and a tail have in common: which model, task and split point they are of."""

    info: ModelInfo
    task: str
    split: str

    @property
    def device(self) -> torch.device:
        """Where its first weights are: what goes through it is best brought there."""
        modules = (part for part in vars(self).values() if isinstance(part, nn.Module))
        weights = (weight for module in modules for weight in module.parameters())
        return next((weight.device for weight in weights), torch.device("cpu"))

    @property
    def pass_tokens(self) -> int:
        """Tokens of a prompt that had best go through it together."""
        return GPU_PASS_TOKENS if self.device.type == "cuda" else PASS_TOKENS

    def new_cache(self) -> Cache:
        """An empty cache for one batch; TaskError in families that are not causal."""
        raise TaskError(f"{self.info.name} is a {self.info.family} model and has no cache.")


class Head(Half):
    """The edge's half."""

    @abstractmethod
    def __call__(self, inputs: Mapping[str, Tensor], cache: Cache | None = None) -> Features:
        """The features of one batch. ``inputs`` are keyword tensors of the unsplit class.

        With ``cache`` the tokens continue those it has seen. Raises InputError.
        """

    def takes_spans(self, inputs: Mapping[str, Tensor]) -> bool:
        """Whether the inputs are one sequence that it can be given span by span, with a cache.

        ``input_ids`` are its tokens then; the other inputs are for the tail's ``span``.
        """
        return False


class Tail(Half):
    """The cloud's half.

    ``per_sample`` names the uncoded tensors that have a row for each sample of the batch; a feature
    with any other goes through the tail alone. ``of_all`` names those that say the same of every
    sample. ``of_tokens``: a tensor's tokens are those of the input, of which the model's context
    bounds the number.
    """

    per_sample: ClassVar[frozenset[str]] = frozenset()
    of_all: ClassVar[frozenset[str]] = frozenset()
    of_tokens: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, features: Features, cache: Cache | None = None) -> Any:
        """What the unsplit class returns for the batch. Raises InputError."""

    def step(self, feature: Features, cache: Cache) -> Tensor:
        """The next tokens of one sequence: the logits ``[vocabulary]`` of the last of them.

        Raises InputError.
        """
        logits: Tensor = self(feature, cache=cache).logits[0, -1]
        return logits

    def steps(self, features: Sequence[Features], caches: Sequence[Cache]) -> list[Tensor]:
        """The same for several sequences.

        Families that can do it run one forward pass for all; its sums differ from those of single
        passes in the last bits.
        """
        return [self.step(*one) for one in zip(features, caches, strict=True)]

    def span(self, feature: Features, cache: Cache, tokens: int) -> dict[str, Tensor]:
        """The next tokens of one sequence of so many, which comes span by span.

        ``uncoded`` is what the whole sequence's feature has. The outputs of all spans, joined along
        dimension 1, are what the unsplit class returns for the sequence; a span of which none is
        kept gives none. Raises InputError, and TaskError in families that are not causal.
        """
        raise TaskError(f"{self.info.name} is a {self.info.family} model and takes no spans.")

    def span_bytes(self, tokens: int, uncoded: Mapping[str, Tensor]) -> int:
        """What the outputs of so many tokens in spans take, until all of them have come.

        ``uncoded`` is as of ``span``. TaskError in families that are not causal.
        """
        raise TaskError(f"{self.info.name} is a {self.info.family} model and takes no spans.")

    def cache_bytes(self, tokens: int) -> int:
        """What a cache of so many tokens takes; TaskError in families that are not causal."""
        raise TaskError(f"{self.info.name} is a {self.info.family} model and has no cache.")

    def of_task(self, task: str) -> Tail:
        """The tail for another task whose weights are in the same folder, sharing them."""
        return replace(self, task=task)

    def differentiable(self, features: Features) -> Any:
        """The same with gradients towards features that ask for them, where there are any.

        Raises InputError, and TaskError where there never are.
        """
        return self(features)


@dataclass(frozen=True)
class Model(ABC):
    """The whole model: the unsplit reference, and any split point of it over the same weights."""

    info: ModelInfo
    task: str

    @abstractmethod
    def __call__(self, inputs: Mapping[str, Tensor], cache: Cache | None = None) -> Any:
        """What the unsplit class returns. Raises InputError."""

    @abstractmethod
    def head(self, split: str) -> Head:
        """The head of a split point, sharing this model's weights. Raises SplitError."""

    @abstractmethod
    def tail(self, split: str) -> Tail:
        """The tail of a split point, sharing this model's weights. Raises SplitError."""

    def of_task(self, task: str) -> Model:
        """The model for another task whose weights are in the same folder, sharing them."""
        return replace(self, task=task)

    def new_cache(self) -> Cache:
        """An empty cache for one batch; TaskError in families that are not causal."""
        raise TaskError(f"{self.info.name} is a {self.info.family} model and has no cache.")


def gradients_for(*tensors: Tensor) -> torch.set_grad_enabled:
    """Records gradients only if one of the tensors asks for them.

    Parameters keep asking, as the unsplit class's do: torch picks another matrix product, with
    other last bits, for weights that do not.
    """
    wanted = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return torch.set_grad_enabled(wanted)


def refuse_cache(info: ModelInfo, cache: Cache | None) -> None:
    """TaskError if a family that is not causal is given a cache."""
    if cache is not None:
        raise TaskError(f"{info.name} is a {info.family} model and takes no cache.")


def refuse_unknown(inputs: Mapping[str, Tensor], required: str, *optional: str) -> None:
    """InputError unless the required tensor is there and no other than the optional ones."""
    allowed = (required, *optional)
    unknown = sorted(set(inputs) - set(allowed))
    if required not in inputs or unknown:
        found = ", ".join(sorted(inputs)) or "nothing"
        raise InputError(f"The inputs are {found}; they must be {' and maybe '.join(allowed)}.")


def check_tokens(info: ModelInfo, ids: Tensor, vocabulary: int) -> Tensor:
    """The token ids themselves; InputError unless they are such, and not too many."""
    if ids.dim() != 2 or ids.is_floating_point() or ids.numel() == 0:
        raise InputError(
            f"input_ids must be integers of shape [batch, tokens], not {ids.dtype} of shape "
            f"{list(ids.shape)}."
        )
    if info.context is not None and ids.shape[1] > info.context:
        raise InputError(
            f"{ids.shape[1]} tokens are more than the {info.context} of {info.name}'s context."
        )
    if int(ids.min()) < 0 or int(ids.max()) >= vocabulary:
        raise InputError(
            f"input_ids range from {int(ids.min())} to {int(ids.max())}, but {info.name} has the "
            f"tokens 0 to {vocabulary - 1}."
        )
    return ids
