"""Caches of several sequences as one: one forward pass for a token of each, whatever their lengths.

Keys have their rotary positions in them already, so shorter sequences are padded on the left, where
the attention mask hides them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Cache as States
from transformers.cache_utils import DynamicLayer


class _RaggedLayer(DynamicLayer):  # type: ignore[misc]
    """One block's keys and values of every sequence, each kept by the sequence's own cache."""

    def __init__(self, members: Sequence[Any]) -> None:
        super().__init__()
        self._members = members

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Remembers ``[sequences, heads, 1, width]`` and gives all, padded to the longest."""
        both = [
            member.update(key_states[row : row + 1], value_states[row : row + 1])
            for row, member in enumerate(self._members)
        ]
        longest = max(keys.shape[-2] for keys, _ in both)
        return _padded([keys for keys, _ in both], longest), _padded(
            [values for _, values in both], longest
        )

    def get_seq_length(self) -> int:
        """Tokens of the longest sequence."""
        return max(int(member.get_seq_length()) for member in self._members)


def ragged(members: Sequence[States]) -> States:
    """The caches of sequences as the cache of one batch; updates go to the members."""
    layers = zip(*(member.layers for member in members), strict=True)
    return States(layers=[_RaggedLayer(layer) for layer in layers])


def ragged_mask(lengths: Sequence[int], device: torch.device) -> Tensor:
    """The attention mask ``[sequences, longest]`` of sequences of such lengths, padded left."""
    ends = torch.tensor(lengths, device=device)[:, None]
    longest = max(lengths)
    return (torch.arange(longest, device=device)[None] >= longest - ends).long()


def is_whole(states: States) -> bool:
    """Whether each block remembers every token: a sliding window or a recurrent state does not."""
    return all(type(layer) is DynamicLayer for layer in states.layers)


def _padded(tensors: Sequence[Tensor], longest: int) -> Tensor:
    return torch.cat([functional.pad(one, (0, 0, longest - one.shape[-2], 0)) for one in tensors])
