"""`codebook_search.find`, compiled: a token at a time, no table of costs."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ..codebook_search import OPENED, Lists
from .compiled import compiled

_FLOATS = "float32[:, ::1]"


def find(places: NDArray[np.float32], lists: Lists) -> NDArray[np.int32]:
    """See `codebook_search.find`."""
    index = np.empty(len(places), np.int32)
    _find(
        np.ascontiguousarray(places),
        lists.heads,
        lists.head_bias,
        lists.table,
        lists.bias,
        lists.starts,
        lists.number,
        index,
    )
    return index


# The order of a sum's terms is free: an encoder's choice may differ in the last bit of a cost.
@njit(fastmath=True, nogil=True)
def _cost(place, row, bias):  # type: ignore[no-untyped-def]
    total = np.float32(0.0)
    for part in range(len(place)):
        total += place[part] * row[part]
    return bias + total


@compiled(
    f"void({_FLOATS}, {_FLOATS}, float32[::1], {_FLOATS}, float32[::1], int64[::1], int32[::1], "
    "int32[::1])",
    makes_arrays=True,
)
def _find(places, heads, head_bias, table, bias, starts, number, index):  # type: ignore[no-untyped-def]
    lists = len(heads)
    costs = np.empty(lists, np.float32)
    for token in range(len(places)):
        place = places[token]
        for head in range(lists):
            costs[head] = _cost(place, heads[head], head_bias[head])
        least = np.float32(np.inf)
        best = 0
        for _ in range(min(OPENED, lists)):
            opened = np.argmin(costs)
            costs[opened] = np.inf
            for word in range(starts[opened], starts[opened + 1]):
                cost = _cost(place, table[word], bias[word])
                if cost < least:
                    least = cost
                    best = word
        index[token] = number[best]
