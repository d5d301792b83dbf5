"""A prompt and a seed go in, what the diffusion head takes comes out; images become PIL images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from featurewire_models.batch import checked_characters, checked_text, one_or_all, several
from featurewire_models.errors import InputError
from featurewire_models.info import ModelInfo


@dataclass(frozen=True)
class PromptProcessor:
    """Prompts for Stable Diffusion 3; ``tokenizers`` with the length that each is padded to."""

    info: ModelInfo
    task: str
    tokenizers: tuple[tuple[Any, int], ...]

    def inputs(
        self,
        raw: str | Sequence[str],
        seed: int = 0,
        steps: int = 28,
        guidance: float = 7.0,
        negative: str = "",
    ) -> dict[str, Tensor]:
        """A head's inputs; ``seed`` is the first image's, the next ones count on from it.

        Raises InputError for an empty prompt, one that UTF-8 cannot hold or that is over the
        model's context, or a seed over int64.
        """
        prompts = several(raw)
        least, most = -(2**63), 2**63 - len(prompts)
        if not least <= seed <= most:
            raise InputError(f"the seed is {seed}; {least} to {most} is allowed.")
        inputs = {
            "seed": torch.arange(len(prompts)) + seed,
            "num_inference_steps": torch.tensor(steps),
            "guidance_scale": torch.tensor(guidance, dtype=torch.float64),
        }
        for number, (tokenizer, length) in enumerate(self.tokenizers, start=1):
            name = "input_ids" if number == 1 else f"input_ids_{number}"
            texts = [checked_text(prompt) for prompt in prompts]
            inputs[name] = self._tokens(tokenizer, length, texts)
            if guidance > 1:
                negatives = [checked_characters(negative)] * len(prompts)
                inputs[f"negative_{name}"] = self._tokens(tokenizer, length, negatives)
        return inputs

    def result(self, outputs: Any) -> Any:
        """A PIL image."""
        return one_or_all([Image.fromarray(each.cpu().numpy()) for each in outputs.images])

    def _tokens(self, tokenizer: Any, length: int, texts: list[str]) -> Tensor:
        longest = max(len(tokenizer(text, verbose=False)["input_ids"]) for text in texts)
        if longest > length:
            raise InputError(
                f"The prompt has {longest} tokens; {self.info.name}'s text encoder takes {length}."
            )
        padded = tokenizer(texts, padding="max_length", max_length=length, return_tensors="pt")
        ids: Tensor = padded["input_ids"]
        return ids
