"""The transforms: a span of a feature in, decorrelated coefficients out, and back.

All are orthonormal (an error of the coefficients is the same error of the feature), but for a task
weight that some fold into their matrices: see `task_weight`.

Coefficients are matrices: a `Panel` says which rows (what shares one exponent: a token, or a block
of the grid) and which columns (what shares one scale: a channel, or a channel at one frequency)
each has.

Here are those over tokens: Identity, the channels less their means, and ChannelKlt, their
Karhunen-Loeve transform. `codebook.TokenCodebook` takes the nearest of many means from each token,
`block_dct.BlockDct` works on a grid.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .task_weight import TaskWeight

if TYPE_CHECKING:
    import torch

Floats = NDArray[np.float32]
NO_INDEX = np.zeros(0, np.int32)


class Geometry(NamedTuple):
    """The shape of a feature: tokens = prefix + grid rows * grid columns, where it has a grid."""

    tokens: int
    channels: int
    grid: tuple[int, int] | None = None

    @classmethod
    def of(cls, array: Floats, grid: tuple[int, int] | None = None) -> "Geometry":
        """Describe the feature [tokens, channels]."""
        return cls(array.shape[0], array.shape[1], grid)

    @property
    def prefix(self) -> int:
        """The number of tokens before the grid (CLS, registers); all of them without a grid."""
        return self.tokens - self.grid[0] * self.grid[1] if self.grid else self.tokens


@dataclass(frozen=True, eq=False)
class Panel:
    """A dense matrix of coefficients: int32[rows] the row numbers, int32[columns] the columns."""

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Layout:
    """The coefficients of a span: how many rows there are, and the panels that they make up."""

    rows: int
    panels: tuple[Panel, ...]


Index = NDArray[np.int32]


class Transform(Protocol):
    """What a profile's transform does; its feature and coefficients are those of one span."""

    mode: ClassVar[str]

    @property
    def mean(self) -> Floats:
        """The channels' means, float32[channels]."""

    @property
    def columns(self) -> int:
        """The number of columns that have a scale."""

    @property
    def counts(self) -> NDArray[np.int64] | None:
        """How often each codeword was the nearest; None without a codebook."""

    @property
    def weight(self) -> TaskWeight | None:
        """What is folded into the matrices; None when they are orthonormal."""

    def spans(self, geometry: Geometry, features: int) -> list[range]:
        """Cut the tokens into spans of about `features` values each."""

    def search(self, feature: Floats) -> Index:
        """Choose each token's codeword: int32[len(span)]; empty without a codebook."""

    def layout(self, geometry: Geometry, span: range, index: Index) -> Layout | None:
        """Lay out the coefficients of a span; None when no span may start or end there."""

    def forward(
        self, feature: Floats, geometry: Geometry, span: range, index: Index
    ) -> list[Floats]:
        """Transform float32[len(span), channels] to the coefficients of each panel."""

    def inverse(
        self, coefficients: list[Floats], geometry: Geometry, span: range, index: Index
    ) -> Floats:
        """Undo `forward`."""


class Identity:
    """No transform but the means' removal: one row a token, one column a channel."""

    mode: ClassVar[str] = "identity"
    counts: NDArray[np.int64] | None = None
    weight: TaskWeight | None = None

    def __init__(self, mean: Floats) -> None:
        """`mean` is float32[channels]."""
        self.mean = mean
        self.columns = len(mean)

    def spans(self, geometry: Geometry, features: int) -> list[range]:
        """Cut the tokens into spans of about `features` values each."""
        return token_spans(geometry, features)

    def search(self, feature: Floats) -> Index:
        """There is no codebook."""
        return NO_INDEX

    def layout(self, geometry: Geometry, span: range, index: Index = NO_INDEX) -> Layout:
        """Lay out the coefficients of a span, which may be any."""
        return _dense_layout(len(span), geometry.channels)

    def forward(
        self, feature: Floats, geometry: Geometry, span: range, index: Index = NO_INDEX
    ) -> list[Floats]:
        """Transform the tokens [len(span), channels] of a span."""
        return [feature - self.mean]

    def inverse(
        self, coefficients: list[Floats], geometry: Geometry, span: range, index: Index = NO_INDEX
    ) -> Floats:
        """Undo `forward`: [len(span), channels]."""
        feature: Floats = coefficients[0] + self.mean
        return feature


class ChannelKlt(Identity):
    """A KLT over the channels: one row a token, one column a principal component."""

    mode: ClassVar[str] = "klt"

    def __init__(self, mean: Floats, matrix: Floats, weight: TaskWeight | None = None) -> None:
        """`matrix` is float32[channels, channels], its columns the principal components.

        With a weight they are those of weighted features; the mean is the features' own.
        """
        super().__init__(mean)
        self.matrix = matrix
        self.weight = weight

    def forward(
        self, feature: Floats, geometry: Geometry, span: range, index: Index = NO_INDEX
    ) -> list[Floats]:
        """Transform the tokens [len(span), channels] of a span."""
        import torch

        centred: Floats = feature - self.mean
        return [(torch.from_numpy(centred) @ self._rotation).numpy()]

    def inverse(
        self, coefficients: list[Floats], geometry: Geometry, span: range, index: Index = NO_INDEX
    ) -> Floats:
        """Undo `forward`: [len(span), channels]."""
        import torch

        feature: Floats = (torch.from_numpy(coefficients[0]) @ self._back).numpy() + self.mean
        return feature

    @functools.cached_property
    def _rotation(self) -> "torch.Tensor":
        """The matrix for torch, whose threads the model's own operators share.

        numpy's BLAS keeps threads of its own, which go on spinning for a while after a product:
        beside a tail on two cores they doubled its time.
        """
        import torch

        rotation = torch.tensor(self.matrix)
        return rotation if self.weight is None else torch.tensor(self.weight.matrix) @ rotation

    @functools.cached_property
    def _back(self) -> "torch.Tensor":
        """What undoes `_rotation`."""
        import torch

        if self.weight is None:
            return self._rotation.T
        return torch.tensor(self.matrix.T) @ torch.tensor(self.weight.inverse)


@functools.lru_cache(maxsize=64)
def token_spans(geometry: Geometry, features: int) -> list[range]:
    """Cut all tokens into spans of about `features` values each."""
    rows = max(1, features // geometry.channels)
    return ranges_between(accumulate(near_equal_parts(geometry.tokens, rows), initial=0))


def near_equal_parts(length: int, most: int) -> list[int]:
    """Cut a length into the fewest parts of at most `most`, as equal as can be, larger first."""
    count = -(-length // most)
    return [length // count + (number < length % count) for number in range(count)]


def ranges_between(cuts: Iterable[int]) -> list[range]:
    return [range(start, stop) for start, stop in pairwise(cuts)]


@functools.lru_cache(maxsize=16)
def _dense_layout(tokens: int, channels: int) -> Layout:
    rows = np.arange(tokens, dtype=np.int32)
    return Layout(tokens, (Panel(rows, all_columns(channels)),))


@functools.lru_cache(maxsize=16)
def all_columns(columns: int, first: int = 0) -> NDArray[np.int32]:
    """Return `columns` column numbers from `first`; the same array each time, to know it by."""
    return np.arange(first, first + columns, dtype=np.int32)


@functools.lru_cache(maxsize=8)
def plain_transform(channels: int) -> Identity:
    """Return the transform of plain chunks: none at all, no means either."""
    return Identity(np.zeros(channels, np.float32))
