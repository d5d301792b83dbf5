"""In: documents of prose. Out: tokens, and rows of tokens as wide as a model's context."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from featurewire_models.training.prose import Document


def encode(documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Return the documents as one sequence of tokens, each between its two marks."""
    tokens: list[int] = []
    for document in documents:
        tokens += tokenizer.backend_tokenizer.encode(document.text).ids
        tokens.append(tokenizer.eos_token_id)
    return torch.tensor(tokens)


def cut_rows(tokens: Tensor, context: int, bos: int) -> Tensor:
    """Cut tokens into rows [n, context], each opened by <|begin_of_text|>; drop the last few."""
    count = len(tokens) // (context - 1)
    rows = tokens[: count * (context - 1)].view(count, context - 1)
    return torch.cat([torch.full((count, 1), bos), rows], dim=1)


def batches(tokens: Tensor, context: int, size: int, bos: int, seed: int) -> Iterator[Tensor]:
    """Yield batches [size, context] without end; each epoch is cut elsewhere and shuffled anew."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        offset = int(torch.randint(context, (), generator=generator))
        rows = cut_rows(tokens[offset:], context, bos)
        order = torch.randperm(len(rows), generator=generator)
        yield from torch.split(rows[order[: len(order) // size * size]], size)
