"""One-sided values to indices to symbols, and back: the ends of `one_sided.walk`."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import BitstreamError
from .one_sided import Contexts
from .panels import CENTROID_UNIT, MAX_INDEX
from .tables import CENTROIDS

Floats = NDArray[np.float32]


def quantise(
    values: NDArray[np.float32], how: Contexts, thresholds: NDArray[np.float32]
) -> NDArray[np.int32]:
    """Round values in steps, [n, channels], to indices; what is below zero becomes zero.

    `thresholds` float32[128, 4] are `quantiser.rounding_thresholds` of the classes.
    """
    level = thresholds[how.classes]
    size = np.clip(values, 0.0, MAX_INDEX)
    small = (size[..., None] >= level[..., :3]).sum(axis=-1, dtype=np.int32)
    return np.where(size < 3, small, (size + level[..., 3]).astype(np.int32))


def dequantise(
    indices: NDArray[np.int32], how: Contexts, centroids: NDArray[np.int8]
) -> NDArray[np.float32]:
    """Return the values, in steps, that indices stand for."""
    place = centroids[how.classes, np.minimum(indices, CENTROIDS - 1)].astype(np.float32)
    return indices.astype(np.float32) + place * np.float32(1.0 / CENTROID_UNIT)


class Symbols(NamedTuple):
    """Indices as the entropy coder takes them, in raster order.

    symbols uint8[n * channels]; low int32[n * channels], the raw low bits; excess int64[escapes].
    """

    symbols: NDArray[np.uint8]
    low: NDArray[np.int32]
    excess: NDArray[np.int64]


def to_symbols(indices: NDArray[np.int32], how: Contexts, radii: NDArray[np.int32]) -> Symbols:
    """Turn indices [n, channels] into symbols."""
    index, base = indices.ravel(), how.base.ravel()
    coarse = index >> how.low_bits.ravel()
    radius = radii[how.classes.ravel()]
    place = coarse - base
    above, below = place - radius, -place
    escaped = (above >= 0) | ((below >= 0) & (base > 0))
    excess = np.maximum(above, below)[escaped].astype(np.int64)
    low = index - (coarse << how.low_bits.ravel())
    return Symbols(np.clip(place, 0, radius).astype(np.uint8), low.astype(np.int32), excess)


def escapes(
    symbols: NDArray[np.uint8], how: Contexts, radii: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Tell which symbols are escapes."""
    low_end = (symbols == 0) & (how.base.ravel() > 0)
    either: NDArray[np.bool_] = low_end | (symbols == radii[how.classes.ravel()])
    return either


def from_symbols(coded: Symbols, how: Contexts, radii: NDArray[np.int32]) -> NDArray[np.int32]:
    """Undo `to_symbols`: indices int32[n, channels].

    Raises:
        BitstreamError: an escape leads below zero or beyond the largest index.
    """
    place = coded.symbols.astype(np.int64)
    escaped = escapes(coded.symbols, how, radii)
    place[escaped] += np.where(place[escaped] > 0, coded.excess, -coded.excess)
    coarse = place + how.base.ravel()
    index = (coarse << how.low_bits.ravel()) + coded.low
    if len(index) and not 0 <= int(coarse.min()) <= int(index.max()) <= MAX_INDEX:
        raise out_of_range()
    return index.astype(np.int32).reshape(how.classes.shape)


def out_of_range() -> BitstreamError:
    """The error of an index below zero or beyond the largest."""
    return BitstreamError("a one-sided index is out of range")


def quantise_part(
    values: Floats,
    how: Contexts,
    thresholds: Floats,
    radii: NDArray[np.int32],
    centroids: NDArray[np.int8],
) -> tuple[NDArray[np.int32], Floats, Symbols]:
    """Return the indices of values in steps [n, channels], what is rebuilt of them, the symbols."""
    indices = quantise(values, how, thresholds)
    return indices, dequantise(indices, how, centroids), to_symbols(indices, how, radii)


def count_escapes(symbols: NDArray[np.uint8], how: Contexts, radii: NDArray[np.int32]) -> int:
    """Count the escapes."""
    return int(escapes(symbols, how, radii).sum())


def rebuild_part(
    coded: Symbols, how: Contexts, radii: NDArray[np.int32], centroids: NDArray[np.int8]
) -> tuple[NDArray[np.int32], Floats]:
    """Return the indices [n, channels] and their values in steps; raises as `from_symbols`."""
    indices = from_symbols(coded, how, radii)
    return indices, dequantise(indices, how, centroids)
