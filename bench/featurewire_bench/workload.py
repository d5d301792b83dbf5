"""A workload: a bundled model's task on held-out inputs, with the one metric that scores it.

Samples in; through a client or through the unsplit model, outputs out; a float from the outputs.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from featurewire_client import SplitClient
from featurewire_models import load_model

from featurewire_bench.metrics import token_agreement

Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Workload(ABC):
    """One line of the demo, but for the link and the codec.

    `title` is the task in a person's words, `task` the model's name for it; `metric` is its name,
    a comma, its unit; `note` says what one inference and the metric are.
    """

    model: str
    task: str
    title: str
    metric: str
    note: str

    @property
    @abstractmethod
    def size(self) -> int:
        """The number of samples."""

    @abstractmethod
    async def warm_up(self, client: SplitClient) -> None:
        """A request that nobody times: what is compiled or loaded at the first one."""

    @abstractmethod
    async def ask(self, client: SplitClient, index: int) -> Any:
        """The split model's output for a sample; the client's last_stats then accounts for it."""

    @abstractmethod
    def unsplit(self) -> list[Any]:
        """The whole model's outputs for all samples."""

    @abstractmethod
    def score(self, outputs: Sequence[Any]) -> float:
        """The metric over the outputs of all samples, in order."""

    def remark(self, outputs: Sequence[Any], unsplit: Sequence[Any]) -> str:
        """What to say below the table."""
        return self.note


@dataclass(frozen=True)
class Inference(Workload):
    """Tensors in, an output out: everything but generation."""

    samples: Sequence[Any]  # what the inputs were made from, and what is true of them
    inputs: Sequence[Inputs]
    outputs: Sequence[str]  # the outputs that the metric needs; none: all
    scored: Callable[[Sequence[Any]], float]

    @property
    def size(self) -> int:
        return len(self.inputs)

    async def warm_up(self, client: SplitClient) -> None:
        for inputs in self.inputs[:2]:
            await client.infer(inputs, self.outputs)

    async def ask(self, client: SplitClient, index: int) -> Any:
        return (await client.infer(self.inputs[index], self.outputs)).output

    def unsplit(self) -> list[Any]:
        model = load_model(self.model, task=self.task)
        with torch.inference_mode():
            return [model(inputs) for inputs in self.inputs]

    def score(self, outputs: Sequence[Any]) -> float:
        return self.scored(outputs)


@dataclass(frozen=True)
class Generation(Workload):
    """Prompts in, greedy continuations out, as token ids; scored on the ids."""

    prompts: Sequence[str]
    max_tokens: int
    processor: Any  # texts to ids and back
    scored: Callable[[Sequence[str], Sequence[str]], float]  # prompts, continuations

    @property
    def size(self) -> int:
        return len(self.prompts)

    async def warm_up(self, client: SplitClient) -> None:
        async for _ in client.generate(self.prompts[0], max_tokens=3):
            pass

    async def ask(self, client: SplitClient, index: int) -> Any:
        pieces = client.generate(self.prompts[index], max_tokens=self.max_tokens)
        return "".join([piece async for piece in pieces])

    def unsplit(self) -> list[Any]:
        model = load_model(self.model, task=self.task)
        return [self._continue(model, prompt) for prompt in self.prompts]

    def score(self, outputs: Sequence[Any]) -> float:
        return self.scored(self.prompts, outputs)

    def remark(self, outputs: Sequence[Any], unsplit: Sequence[Any]) -> str:
        agreements = [
            token_agreement(self._ids(prompt, split), self._ids(prompt, whole))
            for prompt, split, whole in zip(self.prompts, outputs, unsplit, strict=True)
        ]
        share = 100 * sum(agreements) / len(agreements)
        return f"{self.note}; {share:.0f} % of the tokens are the unsplit model's"

    def _ids(self, prompt: str, text: str) -> list[int]:
        """The tokens of the text after its prompt."""
        given = self.processor.inputs(prompt)["input_ids"].shape[1]
        ids: list[int] = self.processor.inputs(prompt + text)["input_ids"][0, given:].tolist()
        return ids

    def _continue(self, model: Any, prompt: str) -> str:
        ids = self.processor.inputs(prompt)["input_ids"]
        cache, tokens = model.new_cache(), list[int]()
        while len(tokens) < self.max_tokens:
            with torch.inference_mode():
                logits = model({"input_ids": ids}, cache=cache).logits
            token = int(logits[0, -1].argmax())
            if token in self.processor.end_ids:
                break
            tokens.append(token)
            ids = torch.tensor([[token]])
        text: str = self.processor.decode(tokens)
        return text
