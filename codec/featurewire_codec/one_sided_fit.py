"""The one-sided mode's channel weights: calibration features in, `ChannelWeights` out.

Two least-squares fits on quantised features: each channel from its own neighbours, drawn towards
the frozen weights that serve all channels; then what is left of it from what is left of the
channels decoded earlier in the same place. Errors count the less, the larger they are expected.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .one_sided import (
    CHANNEL_BITS,
    RATIO_BITS,
    UNIT,
    WEIGHT_BITS,
    Pass,
    Prediction,
    expected,
    features,
    passes,
    predict,
)
from .one_sided_tables import KINDS, Parameters
from .one_sided_weights import MAX_CHANNELS, MAX_GAIN, MAX_WEIGHT, ChannelWeights
from .quantiser import step_size

GROUPS = 8  # more gain little: 16 groups another 1 %
ROUNDING = 0.42
_FEW = 8  # misses of a step that say nothing of a channel
_RIDGE, _OWN_RIDGE = 1e-3, 3e-4
_FLAT = UNIT // 2  # keeps the smallest expected errors from counting for everything
_POOLED = 4  # tokens a channel at which a kind of pass has half a say beside the others
Floats = NDArray[np.float32]
Grid = tuple[int, int] | None


class Quantised(NamedTuple):
    """A sample's indices int32[tokens, channels], its passes, and its channels' expected means."""

    indices: NDArray[np.int32]
    passes: list[Pass]
    mean: NDArray[np.int64]


def quantise_sample(
    sample: Floats,
    grid: Grid,
    offsets: NDArray[np.int32],
    step_exponent: int,
    parameters: Parameters,
) -> Quantised:
    """Round a feature [tokens, channels] at a step."""
    rows, columns = grid or (0, 0)
    scaled = np.clip(sample, 0, None) * np.float32(1 / step_size(step_exponent))
    indices = (np.minimum(scaled, 2.0**29) + np.float32(ROUNDING)).astype(np.int32)
    listed = passes(len(sample) - rows * columns, rows, columns)
    return Quantised(indices, listed, expected(offsets, step_exponent, parameters))


def fit_channel_weights(
    samples: Sequence[Floats],
    grid: Grid,
    offsets: NDArray[np.int32],
    step_exponent: int,
    parameters: Parameters,
    groups: int = GROUPS,
) -> ChannelWeights:
    """Fit the weights of a profile; `step_exponent` is that of a middling SNR.

    samples: float32[tokens, channels], all on `grid`; offsets int32[channels] are their levels.
    """
    channels = len(offsets)
    variance = np.mean([sample.var(axis=0) for sample in samples], axis=0)
    order = np.argsort(-variance, kind="stable").astype(np.int32)
    groups = groups if channels <= MAX_CHANNELS else 1
    bounds = tuple(int(b) for b in np.unique(np.arange(groups + 1) * channels // groups))

    def quantised() -> Iterator[Quantised]:
        for sample in samples:  # from here on the channels are in decoding order
            ordered = sample[:, order]
            yield quantise_sample(ordered, grid, offsets[order], step_exponent, parameters)

    value = _fit_own(quantised(), channels, parameters)
    matrix = np.zeros((KINDS, channels, channels if len(bounds) > 2 else 0), np.int16)
    gain = np.full((KINDS, channels), 1 << RATIO_BITS, np.int32)
    weights = ChannelWeights(order, bounds, value, matrix, gain, np.zeros(channels, np.uint8))
    if len(bounds) > 2:
        _fit_matrix(quantised(), weights, parameters)
    _fit_gain(quantised(), weights, parameters)
    return weights


def _fit_own(
    quantised: Iterable[Quantised], channels: int, parameters: Parameters
) -> NDArray[np.int32]:
    """Return int32[kinds, channels, 4]: how each channel follows from its own neighbours."""
    squares, products = np.zeros((KINDS, channels, 4, 4)), np.zeros((KINDS, channels, 4))
    for indices, listed, mean in quantised:
        for one in listed:
            known = np.stack(features(indices, one, mean)[:4], axis=-1).astype(np.float64)
            weight = 1 / (known[..., 0] / 2 + known[..., 1] / 2 + known[..., 3] + _FLAT) ** 2
            weighted = known * weight[..., None]
            true = UNIT * indices[one.tokens].astype(np.float64)
            squares[one.kind] += np.einsum("nci,ncj->cij", weighted, known)
            products[one.kind] += np.einsum("nci,nc->ci", weighted, true)
    shared = parameters.value / 2.0**WEIGHT_BITS
    value = np.repeat(parameters.value, channels, axis=1)
    for kind in range(1, KINDS):
        power = np.trace(squares[kind], axis1=1, axis2=2)[:, None, None] / 4
        ridge = (_OWN_RIDGE * power + 1e-12) * np.eye(4)
        left = products[kind] - squares[kind] @ shared[kind, 0]
        own = shared[kind] + np.linalg.solve(squares[kind] + ridge, left[..., None])[..., 0]
        value[kind] = np.clip(np.rint(own * 2**WEIGHT_BITS), -MAX_WEIGHT, MAX_WEIGHT)
    return value.astype(np.int32)


def _fit_matrix(
    quantised: Iterable[Quantised], weights: ChannelWeights, parameters: Parameters
) -> None:
    """Fill in how each group's misses follow from those of the groups before."""
    channels = len(weights.order)
    covariance, tokens = np.zeros((KINDS, channels, channels)), np.zeros(KINDS)
    for indices, listed, mean in quantised:
        for one in listed:
            prediction = predict(indices, one, mean, parameters, weights.value)
            missed = misses(indices, one, prediction)
            missed /= np.sqrt(prediction.error.mean(axis=1) + _FLAT)[:, None]
            covariance[one.kind] += missed.T @ missed
            tokens[one.kind] += len(missed)
    pooled = covariance[1:].sum(axis=0)
    for kind in np.flatnonzero(tokens):
        own = covariance[kind]
        if kind and np.trace(pooled) > 0:
            share = _POOLED * channels / (_POOLED * channels + tokens[kind])
            own = (1 - share) * own + share * pooled * (np.trace(own) / np.trace(pooled))
        own += (_RIDGE * np.trace(own) / channels + 1e-9) * np.eye(channels)
        for start, end in pairwise(weights.bounds[1:]):
            solved = np.linalg.solve(own[:start, :start], own[:start, start:end]).T
            scaled = np.clip(np.rint(solved * 2**CHANNEL_BITS), -32767, 32767)
            weights.matrix[kind, start:end, :start] = scaled


def _fit_gain(
    quantised: Iterable[Quantised], weights: ChannelWeights, parameters: Parameters
) -> None:
    """Fill in how large the misses that are left are, beside what the neighbours lead to expect."""
    channels = len(weights.order)
    left, due = np.zeros((KINDS, channels)), np.zeros((KINDS, channels))
    for indices, listed, mean in quantised:
        for one in listed:
            prediction = predict(indices, one, mean, parameters, weights.value)
            missed = misses(indices, one, prediction)
            if weights.matrix.size:
                missed -= missed @ (weights.matrix[one.kind].T / 2.0**CHANNEL_BITS)
            left[one.kind] += np.abs(missed).sum(axis=0)
            due[one.kind] += prediction.error.sum(axis=0)
    few = _FEW * UNIT
    gain = (left + few) / (due + few)
    weights.gain[...] = np.clip(np.rint(gain * 2**RATIO_BITS), 1, MAX_GAIN)


def misses(indices: NDArray[np.int32], one: Pass, prediction: Prediction) -> NDArray[np.float64]:
    """Return how far the indices of a pass exceed their prediction, in sixty-fourths of a step."""
    return (UNIT * indices[one.tokens].astype(np.int64) - prediction.value).astype(np.float64)
