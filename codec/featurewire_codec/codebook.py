"""The token codebook transform: one codeword a token, then the KLT of what is left around it.

Hidden states of tokens cluster around a mean for each token in its kind of context. One index names
the nearest mean; the residual has far less variance than the feature, and principal components of
its own, by groups of codewords. Vector quantisation followed by transform coding of the residual:
Gersho and Gray, "Vector Quantization and Signal Compression" (1992), chapter 12.
"""

import functools
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from .codebook_search import Lists, find, make_lists
from .task_weight import TaskWeight
from .transform import Floats, Geometry, Index, Layout, Panel, all_columns, token_spans

if TYPE_CHECKING:
    import torch

SEARCH_DIMENSIONS = 96
# The search's basis comes from so many columns at most: its cost must not grow as channels cubed.
_MAX_BASIS_COLUMNS = 512
_BLOCK_TOKENS = 1024


class GroupedTokens:
    """What codebooks share: a panel for each group of codewords that a span's index names."""

    mean: Floats
    group: NDArray[np.uint8]
    weight: TaskWeight | None = None

    def codeword(self, index: Index) -> Floats:
        """Return the codewords float32[tokens, channels] of an index, each in its group's basis."""
        raise NotImplementedError

    def rotate(self, rows: Floats, group: NDArray[np.uint8], back: bool = False) -> Floats:
        """Take rows [tokens, channels] into the bases of their groups uint8[tokens], or back."""
        raise NotImplementedError

    def spans(self, geometry: Geometry, features: int) -> list[range]:
        """Cut the tokens into spans of about `features` values each."""
        return token_spans(geometry, features)

    def layout(self, geometry: Geometry, span: range, index: Index) -> Layout:
        """Lay out the coefficients of a span, which may be any: a panel for each group there is."""
        panels = [
            Panel(rows, all_columns(geometry.channels, number * geometry.channels))
            for number, rows in self._members(index)
        ]
        return Layout(len(span), tuple(panels))

    def forward(
        self, feature: Floats, geometry: Geometry, span: range, index: Index
    ) -> list[Floats]:
        """Transform the tokens [len(span), channels]: a matrix for each group there is."""
        residual = self.rotate(feature - self.mean, self.group[index]) - self.codeword(index)
        members = self._members(index)
        return [residual] if len(members) == 1 else [residual[rows] for _, rows in members]

    def inverse(
        self, coefficients: list[Floats], geometry: Geometry, span: range, index: Index
    ) -> Floats:
        """Undo `forward`: [len(span), channels]."""
        whole = self.assembled(coefficients, index) + self.codeword(index)
        return self.rotate(whole, self.group[index], back=True) + self.mean

    def assembled(self, coefficients: list[Floats], index: Index) -> Floats:
        """Bring the panels' rows into the tokens' order: [len(span), channels]."""
        if len(coefficients) == 1:
            return coefficients[0]
        whole = np.empty((len(index), coefficients[0].shape[1]), np.float32)
        for (_, rows), values in zip(self._members(index), coefficients, strict=True):
            whole[rows] = values
        return whole

    def _members(self, index: Index) -> list[tuple[int, NDArray[np.int32]]]:
        """Return each group that the index names, and its tokens."""
        return _members_of(self.group[index])


def _members_of(group: NDArray[np.uint8]) -> list[tuple[int, NDArray[np.int32]]]:
    """Return each group that there is, and its tokens, of the group of every token."""
    order, ends = np.argsort(group, kind="stable").astype(np.int32), np.cumsum(np.bincount(group))
    starts = np.concatenate([[0], ends])
    return [
        (number, order[start:end])
        for number, (start, end) in enumerate(pairwise(starts.tolist()))
        if start < end
    ]


@dataclass(frozen=True, eq=False)
class TokenCodebook(GroupedTokens):
    """A codebook for tokens, and an orthonormal basis for the residuals of each group of codewords.

    mean float32[C]. matrices float32[J, C, C]: the columns of matrix j are the components of
    group j, by falling residual variance. spreads float32[J, C]: the residual's standard deviation
    in each column, with a coarse quantiser's noise in it; only `search` uses it.
    codewords int8[K, C], scales float32[J, C], group uint8[K]: codeword k has the coefficients
    codewords[k] * scales[group[k]] in the basis of its group. counts int64[K]: how often
    calibration chose it. weight: of a task; matrices and codewords are then those of weighted
    features, the mean is the features' own.
    """

    mode: ClassVar[str] = "codebook"

    mean: Floats
    matrices: Floats
    spreads: Floats
    codewords: NDArray[np.int8]
    scales: Floats
    group: NDArray[np.uint8]
    counts: NDArray[np.int64]
    weight: TaskWeight | None = None

    @property
    def columns(self) -> int:
        """The number of columns: component c of group j is column j * C + c."""
        return self.scales.size

    def search(self, feature: Floats) -> Index:
        """Choose a codeword for each token of [tokens, channels]: the index int32[tokens].

        The least of an estimate of the bits of index and residual, from a projection on the
        directions in which the codewords differ most. Any other index could be decoded too.
        """
        import torch

        basis, lists = self._search_space
        index = np.empty(len(feature), np.int32)
        for start in range(0, len(feature), _BLOCK_TOKENS):
            block = torch.from_numpy(feature[start : start + _BLOCK_TOKENS] - self.mean)
            index[start : start + _BLOCK_TOKENS] = find((block @ basis).numpy(), lists)
        return index

    def rotate(self, rows: Floats, group: NDArray[np.uint8], back: bool = False) -> Floats:
        """Take rows [tokens, channels] into the bases of their groups uint8[tokens], or back."""
        import torch

        matrices = self._backs if back else self._rotations
        members = _members_of(group)
        if len(members) == 1:
            whole: Floats = (torch.from_numpy(rows) @ matrices[members[0][0]]).numpy()
            return whole
        tokens = np.concatenate([tokens for _, tokens in members])
        sizes = [len(tokens) for _, tokens in members]
        parts = torch.split(torch.from_numpy(rows[tokens]), sizes)
        rotated = np.empty_like(rows)
        rotated[tokens] = torch.cat(
            [part @ matrices[number] for (number, _), part in zip(members, parts, strict=True)]
        ).numpy()
        return rotated

    def codeword(self, index: NDArray[np.int32]) -> Floats:
        """Return the codewords float32[tokens, channels] of an index, each in its group's basis."""
        words: Floats = self.codewords[index] * self.scales[self.group[index]]
        return words

    @functools.cached_property
    def _rotations(self) -> "torch.Tensor":
        """The matrices for torch, whose threads the model's own operators share."""
        import torch

        rotations = torch.tensor(self.matrices)
        return rotations if self.weight is None else torch.tensor(self.weight.matrix) @ rotations

    @functools.cached_property
    def _backs(self) -> "torch.Tensor":
        """What undoes `_rotations`."""
        import torch

        if self.weight is None:
            return self._rotations.mT
        return torch.tensor(self.matrices).mT @ torch.tensor(self.weight.inverse)

    @functools.cached_property
    def _search_space(self) -> "tuple[torch.Tensor, Lists]":
        """A basis [C, D], and the codewords in it."""
        import torch

        basis, words = search_basis(self, SEARCH_DIMENSIONS)
        chance = (self.counts + 0.5) / (self.counts + 0.5).sum()
        return torch.tensor(basis), make_lists(words, -np.log2(chance).astype(np.float32))


def search_basis(codebook: TokenCodebook, dimensions: int) -> tuple[Floats, Floats]:
    """Return the basis float32[C, D] for features and the codewords in it, float32[K, D].

    The residual is white in it; see `discriminants`.
    """
    frame, spread, words = _common_frame(codebook)
    words /= spread
    power = codebook.counts @ words**2
    kept = np.sort(np.argsort(-power, kind="stable")[:_MAX_BASIS_COLUMNS])
    words = words[:, kept]
    directions = discriminants(words, codebook.counts, dimensions)
    basis: Floats = np.divide(frame, spread, dtype=np.float32)[:, kept] @ directions
    if codebook.weight is not None:
        basis = codebook.weight.matrix @ basis
    return basis, words @ directions


def discriminants(centres: Floats, counts: NDArray[np.int64], dimensions: int) -> Floats:
    """Return the orthonormal directions [P, D] in which centres [K, P] vary most.

    Where the residual is white these are Fisher's linear discriminants: distances to centres
    differ most in them, and by about the same for all centres in the others.
    """
    share = (counts / max(1, counts.sum())).astype(np.float32)
    scatter = (centres * share[:, None]).T @ centres
    directions = np.linalg.eigh(scatter.astype(np.float64))[1][:, ::-1][:, :dimensions]
    return np.ascontiguousarray(directions, dtype=np.float32)


def _common_frame(codebook: TokenCodebook) -> tuple[Floats, Floats, Floats]:
    """Return one orthonormal basis [C, C] for all groups, the spread [C] and codewords in it."""
    own = codebook.codeword(np.arange(len(codebook.codewords), dtype=np.int32))
    if len(codebook.matrices) == 1:
        return codebook.matrices[0], codebook.spreads[0], own
    covariance = np.zeros_like(codebook.matrices[0])
    words = np.empty_like(own)
    for number, (matrix, spread) in enumerate(
        zip(codebook.matrices, codebook.spreads, strict=True)
    ):
        members = codebook.group == number
        share = codebook.counts[members].sum() / max(1, codebook.counts.sum())
        covariance += share * (matrix * spread**2) @ matrix.T
        words[members] = own[members] @ matrix.T
    variance, components = np.linalg.eigh(covariance)
    frame = components.astype(np.float32)
    floor = codebook.spreads.min() ** 2
    return frame, np.sqrt(np.maximum(variance, floor)).astype(np.float32), words @ frame
