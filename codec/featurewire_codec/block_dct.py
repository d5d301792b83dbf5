"""The transform over a grid: blocks of a span in, coefficients by frequency out, and back.

A block's sides are near-equal parts of the grid's, at most `block` long, so that no grid needs
padding: a shorter block's frequency counts as the full block's nearest below it.
"""

import functools
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .transform import (
    NO_INDEX,
    Floats,
    Geometry,
    Index,
    Layout,
    Panel,
    all_columns,
    near_equal_parts,
    ranges_between,
)


class BlockDct:
    """A DCT-II over near-square blocks of the grid, then a KLT over the channels.

    Blocks are `block` by `block`, or a little smaller where the grid's sides are no multiples of
    it. One row a block, one column a (frequency, component); the tokens before the grid are only
    less their own mean: one row a token, one column a channel, after the blocks' columns.
    """

    mode: ClassVar[str] = "dct"
    counts: NDArray[np.int64] | None = None

    def __init__(self, mean: Floats, prefix_mean: Floats, matrices: Floats, block: int) -> None:
        """`matrices` is float32[1 or block^2, channels, channels]: shared, or one a frequency."""
        self.mean = mean
        self.prefix_mean = prefix_mean
        self.matrices = matrices
        self.block = block
        self.columns = (block * block + 1) * len(mean)

    def spans(self, geometry: Geometry, features: int) -> list[range]:
        """Cut the tokens into spans of whole bands of blocks, of about `features` values each."""
        spans: list[range] = []
        for band in _bands(geometry, self.block):
            if spans and (band.stop - spans[-1].start) * geometry.channels <= features:
                spans[-1] = range(spans[-1].start, band.stop)
            else:
                spans.append(band)
        return spans

    def search(self, feature: Floats) -> Index:
        """There is no codebook."""
        return NO_INDEX

    def layout(self, geometry: Geometry, span: range, index: Index = NO_INDEX) -> Layout | None:
        """Lay out the coefficients of a span; None when no span may start or end there."""
        return _block_layout(geometry, span, self.block)

    def forward(
        self, feature: Floats, geometry: Geometry, span: range, index: Index = NO_INDEX
    ) -> list[Floats]:
        """Transform the tokens [len(span), channels] of a span."""
        prefix, spectra = self.spectra(feature, geometry, span)
        parts = [prefix] if len(prefix) else []
        for frequencies, spectrum in spectra:
            rotated = self._rotate(spectrum, frequencies, inverse=False).transpose(2, 0, 1, 3)
            parts.append(np.ascontiguousarray(rotated).reshape(len(rotated), -1))
        return parts

    def inverse(
        self, coefficients: list[Floats], geometry: Geometry, span: range, index: Index = NO_INDEX
    ) -> Floats:
        """Undo `forward`: [len(span), channels]."""
        prefix, tiles = self._tiles(geometry, span)
        feature = np.empty((len(span), geometry.channels), np.float32)
        tokens = feature[prefix:].reshape(-1, _width(geometry), geometry.channels)
        if prefix:
            feature[:prefix] = coefficients[0] + self.prefix_mean
        for tile, panel in zip(tiles, coefficients[bool(prefix) :], strict=True):
            shape = (tile.down * tile.across, tile.height, tile.width, geometry.channels)
            rotated = panel.reshape(shape).transpose(1, 2, 0, 3)
            spectrum = self._rotate(rotated, tile.frequencies(self.block), inverse=True)
            spectrum[0, 0] += self.mean * np.float32(np.sqrt(tile.height * tile.width))
            blocks = np.einsum("uh,vw,uvnc->nhwc", *tile.bases(), spectrum, optimize=True)
            tile.paste(blocks, tokens)
        return feature

    def spectra(
        self, feature: Floats, geometry: Geometry, span: range
    ) -> tuple[Floats, list[tuple[NDArray[np.intp], Floats]]]:
        """Go half-way: before the KLT. The tokens before the grid, and for each size of block its

        frequencies intp[height, width] and spectrum float32[height, width, blocks, channels].
        """
        prefix, tiles = self._tiles(geometry, span)
        tokens = feature[prefix:].reshape(-1, _width(geometry), geometry.channels)
        spectra = []
        for tile in tiles:
            blocks = tile.cut(tokens)
            spectrum = np.einsum("uh,vw,nhwc->uvnc", *tile.bases(), blocks, optimize=True)
            spectrum[0, 0] -= self.mean * np.float32(np.sqrt(tile.height * tile.width))
            spectra.append((tile.frequencies(self.block), spectrum))
        return feature[:prefix] - self.prefix_mean, spectra

    def _tiles(self, geometry: Geometry, span: range) -> "tuple[int, list[_Tile]]":
        found = _tiles(geometry, span, self.block)
        if found is None:
            raise ValueError(f"no span of this grid has the tokens {span.start} to {span.stop - 1}")
        return found

    def _rotate(self, spectrum: Floats, frequencies: NDArray[np.intp], inverse: bool) -> Floats:
        matrices = self.matrices
        if len(matrices) > 1:
            matrices = matrices[frequencies]
        if inverse:
            matrices = matrices.swapaxes(-1, -2)
        return spectrum @ matrices


@dataclass(frozen=True)
class _Tile:
    """`down` by `across` blocks of one size, side by side; sizes and places in tokens."""

    top: int
    left: int
    height: int
    width: int
    down: int
    across: int

    def cut(self, tokens: Floats) -> Floats:
        """Take the blocks [down * across, height, width, channels] out of [rows, columns, ...]."""
        shape = (self.down, self.height, self.across, self.width, tokens.shape[2])
        blocks = tokens[self._region()].reshape(shape).transpose(0, 2, 1, 3, 4)
        return blocks.reshape(-1, self.height, self.width, tokens.shape[2])

    def paste(self, blocks: Floats, tokens: Floats) -> None:
        """Undo `cut`."""
        shape = (self.down, self.across, self.height, self.width, tokens.shape[2])
        region = blocks.reshape(shape).transpose(0, 2, 1, 3, 4)
        tokens[self._region()] = region.reshape(self.down * self.height, -1, tokens.shape[2])

    def _region(self) -> tuple[slice, slice]:
        bottom = self.top + self.down * self.height
        return slice(self.top, bottom), slice(self.left, self.left + self.across * self.width)

    def bases(self) -> tuple[Floats, Floats]:
        return _dct(self.height), _dct(self.width)

    def frequencies(self, block: int) -> NDArray[np.intp]:
        """Name the frequency of a full block that stands for each of [height, width]."""
        return _frequencies(self.height, self.width, block)


@functools.cache
def _dct(size: int) -> Floats:
    """Return the orthonormal DCT-II [frequency, place]."""
    basis = np.cos(np.pi / size * np.arange(size)[:, None] * (np.arange(size)[None, :] + 0.5))
    basis *= np.sqrt(2.0 / size)
    basis[0] /= np.sqrt(2.0)
    return basis.astype(np.float32)


def _width(geometry: Geometry) -> int:
    if geometry.grid is None:
        raise ValueError("a block transform needs a grid")
    return geometry.grid[1]


def _bands(geometry: Geometry, block: int) -> list[range]:
    """Cut the tokens into bands of blocks, the first with the tokens before the grid."""
    rows = geometry.grid[0] if geometry.grid else 0
    heights = near_equal_parts(rows, block)
    ends = accumulate(height * _width(geometry) for height in heights)
    return ranges_between((0, *(geometry.prefix + end for end in ends)))


def _tiles(geometry: Geometry, span: range, block: int) -> tuple[int, list[_Tile]] | None:
    """Return the span's tokens before the grid and its tiles: at most two heights by two widths.

    None when no span may start or end there. A grid of any size costs the same.
    """
    prefix, width = geometry.prefix, _width(geometry)
    first, begun = divmod(max(span.start - prefix, 0), width)
    last, over = divmod(span.stop - prefix, width)
    if begun or over or first >= last or 0 < span.start <= prefix:
        return None
    heights = _sizes_within(geometry.grid[0] if geometry.grid else 0, block, range(first, last))
    if heights is None:
        return None
    tiles = []
    top = 0
    for height, down in heights:
        left = 0
        for side, across in _sizes_within(width, block, range(width)) or ():
            tiles.append(_Tile(top, left, height, side, down, across))
            left += side * across
        top += height * down
    return (prefix if span.start == 0 else 0), tiles


def _sizes_within(length: int, most: int, part: range) -> list[tuple[int, int]] | None:
    """Return what sizes of near-equal parts make up a part of the length, and how many of each.

    None when it does not begin and end where parts do.
    """
    count = -(-length // most)
    least, longer = divmod(length, count)
    sizes, start = [], 0
    for size, number in ((least + 1, longer), (least, count - longer)):
        begin, end = max(part.start, start), min(part.stop, start + size * number)
        if begin < end:
            if (begin - start) % size or (end - start) % size:
                return None
            sizes.append((size, (end - begin) // size))
        start += size * number
    return sizes


@functools.lru_cache(maxsize=4)
def _block_layout(geometry: Geometry, span: range, block: int) -> Layout | None:
    found = _tiles(geometry, span, block)
    if found is None:
        return None
    prefix, tiles = found
    panels, row = [], 0
    if prefix:
        rows = np.arange(prefix, dtype=np.int32)
        panels.append(Panel(rows, all_columns(geometry.channels, block**2 * geometry.channels)))
        row = prefix
    for tile in tiles:
        blocks = tile.down * tile.across
        columns = _block_columns(tile.height, tile.width, block, geometry.channels)
        panels.append(Panel(np.arange(row, row + blocks, dtype=np.int32), columns))
        row += blocks
    return Layout(row, tuple(panels))


@functools.lru_cache(maxsize=16)
def _block_columns(height: int, width: int, block: int, channels: int) -> NDArray[np.int32]:
    frequencies = _frequencies(height, width, block).reshape(-1, 1)
    columns = frequencies * channels + np.arange(channels)
    return columns.ravel().astype(np.int32)


def _frequencies(height: int, width: int, block: int) -> NDArray[np.intp]:
    """Name the frequency of a full block that stands for each of [height, width]."""
    rows, columns = np.arange(height) * block // height, np.arange(width) * block // width
    return rows[:, None] * block + columns[None, :]
