"""A span of one-sided values in, the symbols and raw bits of its chunk out, and back.

`one_sided.walk` says in which order the parts of a span come and which table codes each index; here
each part is rounded and written, or read and rebuilt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .backend import load_backend
from .bitstream import Chunk
from .entropy_coder import FieldReader, Table
from .one_sided import Contexts, Pass, walk
from .one_sided_symbols import Symbols
from .one_sided_tables import LENGTH_BITS, load_one_sided
from .one_sided_weights import ChannelWeights
from .panels import MAX_INDEX, too_large
from .quantiser import step_size
from .transform import Floats

_NO_EXCESS = np.zeros(0, np.int64)


class Walk(NamedTuple):
    """What both sides know of a span before its first symbol: see `one_sided.walk`."""

    passes: Sequence[Pass]
    offsets: NDArray[np.int32]
    step_exponent: int
    weights: ChannelWeights


@dataclass(frozen=True, eq=False)
class OneSidedSymbols:
    """The indices of a chunk as the entropy coder takes them, in the order of the walk.

    symbols, tables uint8[n]: what is coded, and with which of the models. raw: packed raw bits.
    """

    symbols: NDArray[np.uint8]
    tables: NDArray[np.uint8]
    raw: bytes
    models: tuple[Table, ...]


def quantise_walk(
    feature: Floats, walked: Walk, thresholds: Floats
) -> tuple[OneSidedSymbols, Floats]:
    """Quantise a span [tokens, channels]: its symbols, and the values that a decoder rebuilds.

    Raises:
        FeatureError: a value is too many steps from zero.
    """
    parameters, tables = load_one_sided()[0], walked.weights.tables
    backend, step = load_backend(), step_size(walked.step_exponent)
    scaled = feature[:, walked.weights.order] * np.float32(1.0 / step)
    if not float(scaled.max(initial=0.0)) < MAX_INDEX:
        raise too_large()
    rebuilt = np.empty_like(scaled)
    symbols: list[NDArray[np.uint8]] = []
    classes: list[NDArray[np.uint8]] = []
    fields: list[NDArray[Any]] = []
    widths: list[NDArray[Any]] = []

    def fill(one: Pass, channels: slice, how: Contexts) -> NDArray[np.int32]:
        values = scaled[one.tokens, channels]
        indices: NDArray[np.int32]
        indices, rebuilt[one.tokens, channels], coded = backend.parts.quantise_part(
            values, how, thresholds, tables.radii, tables.centroids
        )
        symbols.append(coded.symbols)
        classes.append(how.classes.ravel())
        if len(coded.excess) or how.low_bits.any():
            lengths = np.frexp((coded.excess + 1).astype(np.float64))[1].astype(np.int64)
            below = coded.excess + 1 - (np.int64(1) << (lengths - 1))
            fields.extend((coded.low, lengths - 1, below))
            widths.extend((how.low_bits.ravel(), np.full(len(lengths), LENGTH_BITS), lengths - 1))
        return indices

    walk(*walked, fill, parameters, backend.contexts)
    raw = b""
    if fields:
        values, wide = np.concatenate(fields).astype(np.int64), np.concatenate(widths)
        raw = backend.fields.pack_fields(values, wide.astype(np.uint8))
    found = np.concatenate(symbols), np.concatenate(classes)
    coded = OneSidedSymbols(*found, raw, walked.weights.models)
    return coded, _in_own_order(rebuilt, walked, step)


def decode_walk(
    chunk: Chunk, check: int, walked: Walk, midpoint: bool
) -> tuple[NDArray[np.int32], Floats]:
    """Undo `quantise_walk`: the indices int32[tokens, channels], and the values.

    Raises:
        BitstreamError: the words or the raw bits do not end where they should, or an index is out
            of range.
    """
    parameters, tables = load_one_sided()[0], walked.weights.tables
    backend, raw = load_backend(), FieldReader(chunk.fields.raw)
    decoder, place = backend.coder.Decoder(chunk.words, check, walked.weights.models), 0
    centroids = np.zeros_like(tables.centroids) if midpoint else tables.centroids
    tokens = sum(len(one.tokens) for one in walked.passes)
    rebuilt = np.empty((tokens, len(walked.offsets)), np.float32)

    def fill(one: Pass, channels: slice, how: Contexts) -> NDArray[np.int32]:
        nonlocal place
        symbols = decoder.pop_each(how.classes.ravel(), place)
        place += len(symbols)
        low, excess = np.zeros(len(symbols), np.int32), _NO_EXCESS
        if how.low_bits.any():
            low = raw.take(how.low_bits.ravel()).astype(np.int32)
        escapes = backend.parts.count_escapes(symbols, how, tables.radii)
        if escapes:
            below = raw.take(np.full(escapes, LENGTH_BITS))
            excess = raw.take(below) + (np.int64(1) << below) - 1
        indices: NDArray[np.int32]
        indices, rebuilt[one.tokens, channels] = backend.parts.rebuild_part(
            Symbols(symbols, low, excess), how, tables.radii, centroids
        )
        return indices

    indices = walk(*walked, fill, parameters, backend.contexts)
    decoder.finish()
    raw.finish()
    values = _in_own_order(rebuilt, walked, step_size(walked.step_exponent))
    return _in_own_order(indices, walked, 1), values


def _in_own_order(matrix: NDArray[Any], walked: Walk, factor: float) -> NDArray[Any]:
    """Bring [tokens, channels] from decoding order back, multiplied."""
    own = np.empty_like(matrix)
    own[:, walked.weights.order] = matrix * matrix.dtype.type(factor)
    return own
