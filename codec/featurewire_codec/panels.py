"""Coefficients to symbols and back, in numpy: what `kernels.panels` does faster, bit for bit.

A panel is a dense matrix [rows, columns] of coefficients with one `Ladder`. All panels of a chunk
are coded together, in *coding order*: group by group; in a group panel by panel, row by row, and
column by column as the ladder has them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .entropy_model import CLASSES, GROUP_CLASS, GROUP_RAW_BITS, GROUPS, Ladder
from .errors import FeatureError

MAX_INDEX = 1 << 30
GIANT = 16.0  # a coefficient this many times its expected magnitude says nothing about its row
CENTROID_UNIT = 256

Floats = NDArray[np.float32]
PanelValues = tuple[Floats, Ladder, NDArray[np.int32]]  # [rows, columns]; ladder; shifts [rows]
PanelShape = tuple[Ladder, NDArray[np.int32]]


class Symbols(NamedTuple):
    """The indices of a chunk in coding order, as the entropy coder takes them.

    symbols: uint8[n], q + R, from 0 to 2R of the class; the edges are escapes.
    counts: int64[160], how many of them are in each group.
    low: int32[m], the raw low bits of the last m indices: those of groups that have any.
    excess: int64[escapes], how far each escaped magnitude is beyond its R.
    """

    symbols: NDArray[np.uint8]
    counts: NDArray[np.int64]
    low: NDArray[np.int32]
    excess: NDArray[np.int64]


def activity(values: Floats, ladder: Ladder, inverse: Floats, weight: Floats) -> NDArray[np.int64]:
    """Sum each row's weighted ratios of magnitude to expected magnitude: int64[rows].

    `inverse` float32[columns] turns a magnitude into the ratio, `weight` float32[columns] into the
    integer that is summed; both in coding order.
    """
    ratio = np.minimum(np.abs(ladder.in_order(values)) * inverse, np.float32(GIANT))
    total: NDArray[np.int64] = (ratio * weight).astype(np.int32).sum(axis=1, dtype=np.int64)
    return total


def rough_bits(values: Floats, scale: float) -> int:
    """Sum log2(1 + |value| * scale) over flat values, in 2^-23 bits, by straight lines."""
    ratio = np.abs(values) * np.float32(scale) + np.float32(1.0)
    return int((ratio.view(np.int32) - np.int32(127 << 23)).sum(dtype=np.int64))


def quantise(
    panels: Sequence[PanelValues],
    inverse_step: float,
    thresholds: Floats,
    radii: NDArray[np.int32],
) -> Symbols:
    """Quantise the coefficients of a chunk.

    `thresholds` float32[64, 4]: for each class the magnitudes in steps from which 1, 2 and 3 are
    chosen, not falling, and what is added to one of 3 or more before it is cut to an integer.

    Raises:
        FeatureError: a coefficient is more than 2^30 steps from zero.
    """
    indices = []
    for values, ladder, shifts in panels:
        scaled = ladder.in_order(values) * np.float32(inverse_step)
        level = thresholds[GROUP_CLASS[ladder.groups(shifts)]]
        size = np.abs(scaled)
        if not float(size.max(initial=0.0)) < MAX_INDEX:
            raise too_large()
        small = (size[..., None] >= level[..., :3]).sum(axis=-1, dtype=np.int32)
        index = np.where(size < 3, small, (size + level[..., 3]).astype(np.int32))
        indices.append(np.where(scaled < 0, -index, index))
    shapes = [(ladder, shifts) for _, ladder, shifts in panels]
    return to_symbols(indices, shapes, radii)


def too_large() -> FeatureError:
    """The error of a coefficient that no index reaches."""
    return FeatureError(
        f"a coefficient is {MAX_INDEX} or more quantiser steps from zero: "
        "ask for a lower snr_db, or, with a profile, encode without it"
    )


def to_symbols(
    indices: Sequence[NDArray[np.int32]], panels: Sequence[PanelShape], radii: NDArray[np.int32]
) -> Symbols:
    """Bring indices [rows, columns] of each panel, columns in coding order, into coding order."""
    group = np.concatenate([ladder.groups(shifts).ravel() for ladder, shifts in panels])
    order = np.argsort(group, kind="stable")
    group = group[order]
    index = np.concatenate([part.ravel() for part in indices])[order]
    raw = GROUP_RAW_BITS[group].astype(np.int64)
    radius = radii[GROUP_CLASS[group]]
    lifted = index + ((1 << raw) >> 1)
    coarse = lifted >> raw
    beyond = np.abs(coarse) - radius
    low = (lifted - (coarse << raw)).astype(np.int32)
    return Symbols(
        symbols=(np.clip(coarse, -radius, radius) + radius).astype(np.uint8),
        counts=np.bincount(group, minlength=GROUPS),
        low=low[raw > 0],
        excess=beyond[beyond >= 0],
    )


def counts_of(panels: Sequence[PanelShape]) -> NDArray[np.int64]:
    """Count the coefficients in each group: int64[160]."""
    parts = [np.bincount(la.groups(sh).ravel(), minlength=GROUPS) for la, sh in panels]
    counts: NDArray[np.int64] = np.sum(parts, axis=0, dtype=np.int64)
    return counts


def raw_widths(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return how many raw low bits each of the coefficients has that have any: the last ones."""
    widths: NDArray[np.uint8] = np.repeat(GROUP_RAW_BITS[CLASSES:], counts[CLASSES:])
    return widths


def count_escapes(
    symbols: NDArray[np.uint8], counts: NDArray[np.int64], radii: NDArray[np.int32]
) -> int:
    """Count the symbols at the edges of their classes' alphabets."""
    radius = np.repeat(radii[GROUP_CLASS], counts)
    return int(((symbols == 0) | (symbols == 2 * radius)).sum())


def dequantise(
    coded: Symbols,
    panels: Sequence[PanelShape],
    step: float,
    radii: NDArray[np.int32],
    centroids: NDArray[np.int8],
) -> list[Floats]:
    """Undo `quantise`: the values float32[rows, columns] of each panel, columns as they were.

    A value is sign(k) (|k| + centroid[class, min(|k|, 3)] / 256) step.
    """
    parts = []
    for (ladder, _), (index, group) in zip(panels, from_symbols(coded, panels, radii), strict=True):
        magnitude = np.abs(index)
        shift = centroids[GROUP_CLASS[group], np.minimum(magnitude, 3)].astype(np.float32)
        rebuilt = magnitude.astype(np.float32) + shift * np.float32(1.0 / CENTROID_UNIT)
        rebuilt *= np.sign(index).astype(np.float32) * np.float32(step)
        values = rebuilt
        if len(ladder.order):
            values = np.empty_like(rebuilt)
            values[:, ladder.order] = rebuilt
        parts.append(values)
    return parts


def from_symbols(
    coded: Symbols, panels: Sequence[PanelShape], radii: NDArray[np.int32]
) -> list[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Undo `to_symbols`: for each panel the indices and groups [rows, columns]."""
    group = np.concatenate([ladder.groups(shifts).ravel() for ladder, shifts in panels])
    order = np.argsort(group, kind="stable")
    sorted_group = group[order]
    raw = GROUP_RAW_BITS[sorted_group].astype(np.int64)
    radius = radii[GROUP_CLASS[sorted_group]]
    coarse = coded.symbols.astype(np.int64) - radius
    escaped = np.abs(coarse) == radius
    coarse[escaped] += np.sign(coarse[escaped]) * coded.excess
    index = np.empty(len(group), np.int64)
    low = np.zeros(len(group), np.int64)
    low[raw > 0] = coded.low
    index[order] = (coarse << raw) + low - ((1 << raw) >> 1)
    parts, start = [], 0
    for ladder, shifts in panels:
        shape, end = (len(shifts), ladder.columns), start + len(shifts) * ladder.columns
        parts.append((index[start:end].reshape(shape), group[start:end].reshape(shape)))
        start = end
    return parts
