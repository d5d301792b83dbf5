"""The entropy coder of the latents: integers in, 32-bit words out, and back.

A latent's scale is rounded to one of 64, geometrically spaced; each has one quantised zero-mean
Gaussian. Latents are coded scale by scale, so that every run has one model. The hyper-latents come
first, one channel after the other, each with its own table. constriction's `AnsCoder` makes the
words: a stack, so that encoding pushes everything from the end.
"""

import math
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from ..errors import BitstreamError
from .hyperprior import MAX_SCALE, MIN_SCALE

SCALES = 64
LARGEST_LATENT = 1023
LARGEST_HYPER_LATENT = 63
MAX_SYMBOL_BITS = 24  # no symbol costs more: probabilities are multiples of 2^-24, above zero
_STEP = math.log(MAX_SCALE / MIN_SCALE) / (SCALES - 1)
_stream = constriction.stream

Models = list[Any]  # constriction has no types


def scale_indices(scales: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Round scales of any shape to the nearest of the 64, by their logarithms."""
    place = np.log(scales / MIN_SCALE) / _STEP
    return np.clip(np.rint(place), 0, SCALES - 1).astype(np.uint8)


def scale(index: int) -> float:
    """One of the 64 scales, 0.11 to 256."""
    return MIN_SCALE * math.exp(index * _STEP)


def hyper_models(probabilities: NDArray[np.float64]) -> Models:
    """Make the models of float64[channels, 127]: of -63 to 63 in each channel."""
    return [_stream.model.Categorical(row / row.sum(), perfect=False) for row in probabilities]


def encode_latents(
    hyper_latents: NDArray[np.int32],
    models: Models,
    latents: NDArray[np.int32],
    indices: NDArray[np.uint8],
) -> NDArray[np.uint32]:
    """Encode hyper-latents int32[channels, ...], then latents with a scale index each."""
    coder = _stream.stack.AnsCoder()
    flat, order, counts = latents.reshape(-1), *_runs(indices)
    ends = np.cumsum(counts)
    for index in reversed(range(SCALES)):
        run = flat[order[ends[index] - counts[index] : ends[index]]]
        if run.size:
            coder.encode_reverse(run, _gaussian(index))
    for channel, model in reversed(list(zip(hyper_latents, models, strict=True))):
        symbols = channel.reshape(-1) + LARGEST_HYPER_LATENT
        coder.encode_reverse(symbols.astype(np.int32), model)
    words: NDArray[np.uint32] = coder.get_compressed()
    return words


class LatentDecoder:
    """Takes the hyper-latents from words, and then the latents."""

    def __init__(self, words: NDArray[np.uint32]) -> None:
        """Raises BitstreamError when no encoder ends with these words."""
        try:
            self._coder = _stream.stack.AnsCoder(words)
        except ValueError as error:
            raise BitstreamError("the entropy-coded words end in a zero word") from error

    def hyper_latents(self, models: Models, shape: tuple[int, int]) -> NDArray[np.int32]:
        """Decode int32[channels, *shape]."""
        count = shape[0] * shape[1]
        symbols = np.stack([self._coder.decode(model, count) for model in models])
        shaped: NDArray[np.int32] = symbols.reshape(len(models), *shape) - LARGEST_HYPER_LATENT
        return shaped

    def latents(self, indices: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Decode the last of the words: int32 of the shape of the scale indices.

        Raises:
            BitstreamError: the words hold more.
        """
        order, counts = _runs(indices)
        flat = np.empty(indices.size, np.int32)
        start = 0
        for index, count in enumerate(counts.tolist()):
            if count:
                flat[order[start : start + count]] = self._coder.decode(_gaussian(index), count)
            start += count
        if not self._coder.is_empty():
            raise BitstreamError("the entropy-coded words do not end where their symbols do")
        return flat.reshape(indices.shape)


def _runs(indices: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of the latents scale by scale, and how many each scale has."""
    flat = indices.reshape(-1)
    order: NDArray[np.int64] = np.argsort(flat, kind="stable")
    return order, np.bincount(flat, minlength=SCALES)


def _gaussian(index: int) -> Any:
    return _stream.model.QuantizedGaussian(-LARGEST_LATENT, LARGEST_LATENT, 0.0, scale(index))
