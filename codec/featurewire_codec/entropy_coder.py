"""The entropy coder: runs of symbols in, 32-bit words out, and back; and raw bit fields.

constriction's `AnsCoder` defines the words. It is a stack, so a run list is pushed from its end and
popped from its start. Its probabilities are made exact: a table of 14-bit integer frequencies f
becomes the weights `f * 2^10 - 1`, whose quantisation to 24 bits has a scale of exactly one, so the
cumulative counts are the integers' own sums (no float rounding can make two machines differ).

ANS: J. Duda, "Asymmetric numeral systems", arXiv 1311.2540.
"""

from collections.abc import Sequence
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from .errors import BitstreamError

PRECISION_BITS = 14
_CODER_BITS = 24

Model = Any  # a constriction Categorical; the package has no types


def make_model(frequencies: NDArray[np.uint16]) -> Model:
    """Make the exact model of one table: integers of at least 1 that sum to 2^14."""
    weights = (frequencies.astype(np.int64) << (_CODER_BITS - PRECISION_BITS)) - 1
    return constriction.stream.model.Categorical(weights.astype(np.float64), perfect=False)


def encode_runs(runs: Sequence[tuple[NDArray[np.int32], Model]]) -> NDArray[np.uint32]:
    """Encode runs of symbols, each with its model, so that they decode in the same order."""
    coder = constriction.stream.stack.AnsCoder()
    for symbols, model in reversed(runs):
        if len(symbols):
            coder.encode_reverse(symbols, model)
    words: NDArray[np.uint32] = coder.get_compressed()
    return words


class RunDecoder:
    """Takes runs of symbols from words, in the order in which they were encoded."""

    def __init__(self, words: NDArray[np.uint32]) -> None:
        """Raises BitstreamError when no encoder ends with these words."""
        try:
            self._coder = constriction.stream.stack.AnsCoder(words)
        except ValueError as error:
            raise BitstreamError("the entropy-coded words end in a zero word") from error

    def take(self, count: int, model: Model) -> NDArray[np.int32]:
        """Decode the next `count` symbols."""
        if count == 0:
            return np.zeros(0, np.int32)
        symbols: NDArray[np.int32] = self._coder.decode(model, count)
        return symbols

    def finish(self) -> None:
        """Raises BitstreamError when the words hold more than was taken."""
        if not self._coder.is_empty():
            raise BitstreamError("the entropy-coded words do not end where their symbols do")


def pack_fields(values: NDArray[np.int64], widths: NDArray[np.integer]) -> bytes:
    """Pack unsigned values of the given widths in bits, most significant bit first, zero-padded."""
    wide = widths > 0
    values, widths = values[wide], widths[wide].astype(np.int64)
    return np.packbits(_bits_below(widths, values)).tobytes()


def unpack_fields(data: bytes, widths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Unpack what `pack_fields` packed; a width of zero gives the value zero.

    Raises:
        BitstreamError: `data` is not exactly as long as the widths say, or its padding is not zero.
    """
    total = int(widths.sum(dtype=np.int64))
    if len(data) != (total + 7) // 8:
        raise BitstreamError(f"{len(data)} bytes of raw bits, {(total + 7) // 8} are due")
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    if bits[total:].any():
        raise BitstreamError("the padding after the raw bits is not zero")
    values = np.zeros(len(widths), np.int64)
    wide = widths > 0
    if total:
        width = widths[wide].astype(np.int64)
        ends = np.cumsum(width)
        place = np.repeat(ends, width) - 1 - np.arange(total)
        values[wide] = np.add.reduceat(bits[:total].astype(np.int64) << place, ends - width)
    return values


def _bits_below(widths: NDArray[np.integer], values: NDArray[np.int64]) -> NDArray[np.uint8]:
    ends = np.cumsum(widths)
    place = np.repeat(ends, widths) - 1 - np.arange(int(widths.sum()))
    return ((np.repeat(values, widths) >> place) & 1).astype(np.uint8)
