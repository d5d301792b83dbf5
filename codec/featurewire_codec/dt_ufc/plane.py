"""The index plane: tokens in, one two-dimensional picture out, and back.

Tokens are packed as they are, [tokens, channels]. Latents on a grid are tiled: every channel is a
small picture, and these stand side by side, 16 channels as 4 x 4 (DT-UFC, arXiv 2506.16495). The
plane is padded to multiples of 64, which is what the network's six halvings need. Fewer than 64
tokens are folded, every one into several lines, where that leaves less to pad.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
PADDING = 128  # the middle index: the network sees zeros, as beyond the edges of every plane
MAX_PIXELS = 1 << 20  # of one chunk's plane: its decoding takes some 300 MiB
MAX_WIDTH = MAX_PIXELS // ALIGNMENT
MAX_TILED_CHANNELS = 64  # a wider feature's channels are no pictures of their own


@dataclass(frozen=True)
class Plane:
    """The plane of a run of tokens. grid: (rows, columns) that all of them lie on, or None."""

    tokens: int
    channels: int
    grid: tuple[int, int] | None

    @staticmethod
    def of(tokens: int, channels: int, grid: tuple[int, int] | None) -> "Plane":
        """Choose: tiled when all the tokens lie on the grid and the channels are few."""
        tiled = grid is not None and grid[0] * grid[1] == tokens and channels <= MAX_TILED_CHANNELS
        if tiled and grid is not None and _tiles(channels)[1] * grid[1] <= MAX_WIDTH:
            return Plane(tokens, channels, grid)
        return Plane(tokens, channels, None)

    @staticmethod
    def of_array(array: NDArray[np.float32], grid: tuple[int, int] | None) -> "Plane":
        """Choose likewise for an array [tokens, channels]."""
        tokens, channels = array.shape
        return Plane.of(tokens, channels, grid)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) without the padding."""
        if self.grid is None:
            lines = _lines(self.tokens, self.channels)
            return self.tokens * lines, self.channels // lines
        down, across = _tiles(self.channels)
        return down * self.grid[0], across * self.grid[1]

    @property
    def padded(self) -> tuple[int, int]:
        """(height, width) with the padding."""
        height, width = self.shape
        return _aligned(height), _aligned(width)

    def chunks(self) -> Iterator[tuple[range, "Plane"]]:
        """Cut into runs of tokens whose padded planes have at most MAX_PIXELS pixels.

        Raises nothing; a plane wider than MAX_WIDTH gives chunks beyond the limit, so check first.
        """
        if self.grid is None:
            width = _aligned(self.channels)
            most = max(MAX_PIXELS // width, ALIGNMENT) // ALIGNMENT * ALIGNMENT
            for start in range(0, self.tokens, most):
                span = range(start, min(start + most, self.tokens))
                yield span, Plane(len(span), self.channels, None)
            return
        rows, columns = self.grid
        heights = max(MAX_PIXELS // self.padded[1], ALIGNMENT) // ALIGNMENT * ALIGNMENT
        most = max(heights // _tiles(self.channels)[0], 1)
        for start in range(0, rows, most):
            part = min(most, rows - start)
            span = range(start * columns, (start + part) * columns)
            yield span, Plane(len(span), self.channels, (part, columns))

    def pack(self, indices: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Lay uint8[tokens, channels] out as a padded uint8[height, width]."""
        picture = indices.reshape(self.shape)
        if self.grid is not None:
            rows, columns = self.grid
            down, across = _tiles(self.channels)
            tiles = indices.reshape(rows, columns, down, across)
            picture = tiles.transpose(2, 0, 3, 1).reshape(self.shape)
        height, width = self.padded
        margins = ((0, height - self.shape[0]), (0, width - self.shape[1]))
        return np.pad(picture, margins, constant_values=PADDING)

    def unpack(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Undo `pack`: uint8[height, width] back to uint8[tokens, channels]."""
        cut = picture[: self.shape[0], : self.shape[1]]
        if self.grid is None:
            return cut.reshape(self.tokens, self.channels)
        rows, columns = self.grid
        down, across = _tiles(self.channels)
        tiles = cut.reshape(down, rows, across, columns).transpose(1, 3, 0, 2)
        return tiles.reshape(self.tokens, self.channels)


def _tiles(channels: int) -> tuple[int, int]:
    """How many channels stand below and beside each other: the divisors nearest to a square."""
    down = next(d for d in range(math.isqrt(channels), 0, -1) if channels % d == 0)
    return down, channels // down


def _lines(tokens: int, channels: int) -> int:
    """How many lines of the plane a token takes: what leaves the least to pad, at best one."""
    most = max(ALIGNMENT // tokens, 1)
    allowed = [lines for lines in range(1, most + 1) if channels % lines == 0]
    return min(allowed, key=lambda lines: _aligned(tokens * lines) * _aligned(channels // lines))


def _aligned(side: int) -> int:
    return -(-side // ALIGNMENT) * ALIGNMENT
