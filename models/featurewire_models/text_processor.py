"""Text goes in, token ids come out; logits, embeddings or token states become an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from featurewire_models.batch import checked_text, one_or_all, several
from featurewire_models.errors import InputError
from featurewire_models.info import ModelInfo


@dataclass(frozen=True)
class TextProcessor:
    """Text for language models and encoders."""

    info: ModelInfo
    task: str
    tokenizer: Any
    end_ids: frozenset[int]

    def inputs(self, raw: str | Sequence[str]) -> dict[str, Tensor]:
        """``input_ids`` int64 ``[batch, tokens]``, and ``attention_mask`` where texts are padded.

        Raises InputError for an empty text, one that UTF-8 cannot hold, or one over the context.
        """
        texts = several(raw)
        # not verbose: the tokenizer's own warning of a long text would come beside the error
        encoded = [self.tokenizer(checked_text(text), verbose=False)["input_ids"] for text in texts]
        longest = max(map(len, encoded))
        if self.info.context is not None and longest > self.info.context:
            raise InputError(
                f"The text has {longest} tokens; {self.info.name}'s context is {self.info.context}."
            )
        if all(len(ids) == longest for ids in encoded):
            return {"input_ids": torch.tensor(encoded)}
        # A language model continues each text at its end, so the padding comes before it.
        left = self.task == "generation"
        ids = torch.full((len(encoded), longest), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(encoded):
            place = slice(longest - len(tokens), None) if left else slice(len(tokens))
            ids[row, place], mask[row, place] = torch.tensor(tokens), 1
        return {"input_ids": ids, "attention_mask": mask}

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without the special ones."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def result(self, outputs: Any) -> Any:
        """The likeliest next piece of text, the sentence's embedding, or its token states."""
        if self.task == "generation":
            return one_or_all([self.decode([int(i)]) for i in outputs.logits[:, -1].argmax(-1)])
        name = "sentence_embedding" if self.task == "embedding" else "last_hidden_state"
        return one_or_all([row.float().cpu().numpy() for row in getattr(outputs, name)])
