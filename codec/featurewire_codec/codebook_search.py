"""The search of a codebook: places of tokens in, the number of a codeword near each out.

Two levels (an inverted file; Jégou, Douze and Schmid, "Product quantization for nearest neighbor
search", 2011): codewords are kept in lists, and a token is compared with those of a few. That may
miss the best codeword, which costs thousandths of a bit; any index decodes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .backend import load_backend
from .transform import Floats, Index

OPENED = 4  # lists that a token looks into
_MIN_FOR_LISTS = 256  # codewords; fewer are one list
_ITERATIONS = 8
_HALF_BIT = np.float32(0.5 / np.log(2.0))  # what a Gaussian's squared normalised distance costs


@dataclass(frozen=True, eq=False)
class Lists:
    """Codewords by list. A codeword's cost at a place p float32[D] is `bias + table @ p`, in bits.

    heads float32[L, D], head_bias float32[L]: the cost of each list's centre.
    table float32[K, D], bias float32[K]: of the codewords, list after list.
    starts int64[L + 1]: where in them each list begins. number int32[K]: the codeword each is.
    """

    heads: Floats
    head_bias: Floats
    table: Floats
    bias: Floats
    starts: NDArray[np.int64]
    number: Index


def make_lists(words: Floats, index_bits: Floats) -> Lists:
    """Sort codewords float32[K, D], whose indices take `index_bits` float32[K], into lists."""
    count = len(words)
    lists = 2 * int(np.sqrt(count)) if count >= _MIN_FOR_LISTS else 1
    centres = words[:: count // lists][:lists].copy()
    own = np.zeros(count, np.int64)
    for _ in range(_ITERATIONS):
        own = ((centres**2).sum(1) - 2 * words @ centres.T).argmin(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, own, words)
        sizes = np.bincount(own, minlength=lists)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
        centres = centres.astype(np.float32)
    order = np.argsort(own, kind="stable")
    bias = _HALF_BIT * (words**2).sum(axis=1) + index_bits
    return Lists(
        heads=-2 * _HALF_BIT * centres,
        head_bias=(_HALF_BIT * (centres**2).sum(axis=1)).astype(np.float32),
        table=np.ascontiguousarray(-2 * _HALF_BIT * words[order]),
        bias=bias[order].astype(np.float32),
        starts=np.concatenate([[0], np.cumsum(np.bincount(own, minlength=lists))]),
        number=order.astype(np.int32),
    )


def find(places: Floats, lists: Lists) -> Index:
    """Return a codeword of about the least cost for each of the places [T, D]: int32[T]."""
    if load_backend().name == "numba":
        from .kernels.codebook_search import find as compiled_find

        return compiled_find(places, lists)
    return plain_find(places, lists)


def plain_find(places: Floats, lists: Lists) -> Index:
    """Do as `find` without compiled kernels."""
    import torch

    everywhere = torch.from_numpy(places)
    heads = torch.addmm(
        torch.from_numpy(lists.head_bias), everywhere, torch.from_numpy(lists.heads).T
    )
    opened = torch.topk(heads, min(OPENED, heads.shape[1]), largest=False).indices.numpy()
    least = np.full(len(places), np.inf, np.float32)
    place = np.zeros(len(places), np.int64)
    for number in np.unique(opened):
        start, stop = lists.starts[number : number + 2]
        if start == stop:
            continue
        rows = np.flatnonzero((opened == number).any(axis=1))
        bias, table = lists.bias[start:stop], lists.table[start:stop]
        costs = torch.addmm(
            torch.from_numpy(bias), torch.from_numpy(places[rows]), torch.from_numpy(table).T
        )
        best = costs.min(dim=1)
        nearer = best.values.numpy() < least[rows]
        least[rows[nearer]] = best.values.numpy()[nearer]
        place[rows[nearer]] = start + best.indices.numpy()[nearer]
    return lists.number[place]
