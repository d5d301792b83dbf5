"""Training of the one-sided mode's frozen numbers: features of several networks in.

First the weights that predict, by least squares; then histograms of all cells, which are merged to
128 classes where it costs least; then, with the thresholds that follow, the histograms of the
classes, from which `one_sided_tables.build_tables` makes the tables. In the histograms all networks
weigh alike: those whose features are mostly zeros have few other indices to say how they lie.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .entropy_model import LEVELS_PER_OCTAVE, UNIT_LEVEL
from .errors import FeatureError
from .feature import energy
from .one_sided import (
    HIGH,
    RAW_ERROR,
    UNIT,
    WEIGHT_BITS,
    Pass,
    Prediction,
    contexts,
    features,
    predict,
    refine,
    refinement,
)
from .one_sided_cells import CELLS, merge_cells
from .one_sided_fit import Floats, Grid, Quantised, fit_channel_weights, quantise_sample
from .one_sided_rounding import (
    SNRS_DB,
    Rounded,
    Samples,
    class_thresholds,
    round_samples,
    symbols_of,
)
from .one_sided_shapes import (
    SHAPE_SNRS_DB,
    Seen,
    choose_mixture,
    choose_shapes,
    count_cells,
    divide_shapes,
)
from .one_sided_tables import (
    ALPHABET,
    CLASSES,
    ERRORS,
    KINDS,
    PREDICTIONS,
    Histograms,
    Parameters,
    Tables,
    build_tables,
)
from .one_sided_weights import ChannelWeights
from .panels import CENTROID_UNIT
from .quantiser import step_for
from .tables import CENTROIDS

FITTED_SNR_DB = 15.0
ROUNDS = 3  # of counting; each with the thresholds that follow from the one before
_FLAT = UNIT // 2
_MOST_SHARE = 64  # times that a source is counted
Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A network's one-sided features float32[tokens, channels], half to fit and half to count."""

    fitted: Sequence[Floats]
    counted: Sequence[Floats]
    grid: Grid

    @property
    def offsets(self) -> NDArray[np.int32]:
        """The channels' levels at a step of one, int32[channels]."""
        return channel_offsets(self.fitted)

    def step_exponent(self, snr_db: float) -> int:
        """Return about the step that gives an SNR."""
        return step_for(float(energy(np.concatenate(self.fitted))), snr_db)


def read_source(name: str, samples: Sequence[Floats], grid: Grid) -> Source:
    """Take every other sample to fit, the others to count; one sample is cut in halves.

    Raises:
        FeatureError: a value is below zero, or there are too few samples to part.
    """
    if any(float(sample.min()) < 0 for sample in samples):
        raise FeatureError(
            f"{name} has values below zero: one-sided features are what a ReLU leaves"
        )
    if len(samples) > 1:
        return Source(samples[::2], samples[1::2], grid)
    (whole,) = samples
    half = len(whole) // 2
    if grid or not half:
        raise FeatureError(f"{name} holds one sample: two or more are needed to train on")
    return Source([whole[:half]], [whole[half:]], None)


def channel_offsets(samples: Sequence[Floats]) -> NDArray[np.int32]:
    """Measure each channel's mean, in quarter-octaves: int32[channels]."""
    mean = np.mean([np.maximum(sample, 0).mean(axis=0) for sample in samples], axis=0)
    octaves = np.log2(np.maximum(mean, 1e-9))
    offsets: NDArray[np.int32] = np.rint(octaves * LEVELS_PER_OCTAVE).astype(np.int32)
    return offsets + np.int32(UNIT_LEVEL)


def train_one_sided(
    sources: Sequence[Source], kept: Parameters | None = None
) -> tuple[Parameters, Histograms]:
    """Fit the parameters on several networks' features and count the class histograms.

    Of `kept` what predicts is taken as it is, and only the classes are found anew.
    """
    parameters = kept or _fit_shared(sources, blank_parameters())
    weights = [channel_weights(source, parameters) for source in sources]
    if kept is None:
        parameters = _fit_refined(sources, weights, parameters)
    seen = [see(source, own, parameters) for source, own in zip(sources, weights, strict=True)]
    shares = _balance(seen)
    peakedness = [_peakedness(source, own) for source, own in zip(sources, weights, strict=True)]
    shapes = divide_shapes(seen, shares, peakedness)
    classes = merge_cells(count_cells(seen, shares, shapes))
    parameters = dataclasses.replace(parameters, classes=classes)
    weights = [dataclasses.replace(own, shape=s) for own, s in zip(weights, shapes, strict=True)]
    thresholds = np.tile(np.array([0.58, 1.58, 2.58, 0.42], np.float32), (CLASSES, 1))
    for _ in range(ROUNDS):
        histograms = Histograms.zeros()
        for source, own, share in zip(sources, weights, shares, strict=True):
            count = functools.partial(_count, histograms, share)
            round_source(source, own, thresholds, parameters, count)
        thresholds = class_thresholds(build_tables(histograms))
    return parameters, histograms


def _balance(seen: Sequence[Seen]) -> list[int]:
    """Return how often to count each source, for about as many symbols beyond zero of each."""
    beyond = np.array([max(1, each.counts[each.symbols > 0].sum()) for each in seen])
    shares: list[int] = np.clip(np.rint(beyond.max() / beyond), 1, _MOST_SHARE).astype(int).tolist()
    return shares


def blank_parameters() -> Parameters:
    """Return parameters with the levels' bounds, and weights still zero."""
    return Parameters(
        octave=np.rint(2 ** (np.arange(32) / 32) * (1 << 16)).astype(np.int32),
        value=np.zeros((KINDS, 1, 4), np.int32),
        error=np.zeros((KINDS, 5), np.int32),
        refined=np.zeros((KINDS, 4), np.int32),
        value_bounds=_bounds(PREDICTIONS - 1, HIGH * UNIT),
        error_bounds=_bounds(ERRORS - 1, RAW_ERROR - UNIT // 4),
        classes=np.zeros(CELLS, np.uint8),
    )


def _bounds(count: int, last: int) -> NDArray[np.int32]:
    """Space bounds evenly on the logarithmic scale from 1 to `last`, no two the same."""
    bounds = np.rint(np.geomspace(1, last, count)).astype(np.int32)
    for place in range(1, count):
        bounds[place] = max(bounds[place], bounds[place - 1] + 1)
    return bounds


def channel_weights(source: Source, parameters: Parameters) -> ChannelWeights:
    """Fit a source's own channel weights; their shapes are still to be chosen."""
    step_exponent = source.step_exponent(FITTED_SNR_DB)
    return fit_channel_weights(
        source.fitted, source.grid, source.offsets, step_exponent, parameters
    )


def calibrated_weights(source: Source, parameters: Parameters, tables: Tables) -> ChannelWeights:
    """Fit a source's own channel weights as calibration would."""
    weights = channel_weights(source, parameters)
    fitted = Samples(source.fitted, source.grid, source.offsets)
    steps = [source.step_exponent(snr_db) for snr_db in SHAPE_SNRS_DB]
    weights = choose_shapes(fitted, steps, weights, parameters, tables)
    steps = [source.step_exponent(snr_db) for snr_db in SNRS_DB]
    return choose_mixture(fitted, steps, weights, parameters, tables)


def _quantised(source: Source, parameters: Parameters) -> Iterator[Quantised]:
    offsets = source.offsets
    for snr_db in SNRS_DB:
        step_exponent = source.step_exponent(snr_db)
        for sample in source.counted:
            yield quantise_sample(sample, source.grid, offsets, step_exponent, parameters)


Numbers = NDArray[Any]


class _Squares:
    """Weighted least squares for each kind of pass, summed up part by part."""

    def __init__(self, count: int) -> None:
        self.squares = np.zeros((KINDS, count, count))
        self.products = np.zeros((KINDS, count))

    def add(self, kind: int, known: Sequence[Numbers], true: Numbers, scale: Numbers) -> None:
        """Add examples; `scale` is how large an error would be no surprise."""
        weight = 1 / (np.ravel(scale) + _FLAT) ** 2
        matrix = np.stack([np.ravel(part) for part in known]).astype(np.float64)
        self.squares[kind] += (matrix * weight) @ matrix.T
        self.products[kind] += (matrix * weight) @ np.ravel(true)

    def solve(self, kind: int) -> NDArray[np.int32]:
        """Return the weights in 2^-10."""
        squares = self.squares[kind]
        ridge = (1e-9 * np.trace(squares) + 1e-12) * np.eye(len(squares))
        solved = np.linalg.solve(squares + ridge, self.products[kind])
        rounded: NDArray[np.int32] = np.rint(solved * 2**WEIGHT_BITS).astype(np.int32)
        return rounded


def _fit_shared(sources: Sequence[Source], parameters: Parameters) -> Parameters:
    """Fit what predicts all channels alike: values, then expected errors."""
    values, errors = _Squares(3), _Squares(5)
    for source in sources:
        for indices, listed, mean in _quantised(source, parameters):
            for one in listed:
                first, second, smooth, own, _, _ = features(indices, one, mean)
                known = [(first + second) / 2, smooth, own]
                values.add(one.kind, known, UNIT * indices[one.tokens], own + (first + second) // 2)
    one_step = 1 << WEIGHT_BITS
    parameters.value[0], parameters.error[0] = (0, 0, 0, one_step), (0, 0, 0, 0, one_step)
    for kind in range(1, KINDS):
        line, smooth_weight, mean_weight = values.solve(kind).tolist()
        parameters.value[kind, 0] = (line // 2, line // 2, smooth_weight, mean_weight)
    for source in sources:
        for indices, listed, mean in _quantised(source, parameters):
            for one in listed:
                first, second, _, own, spread, lines = features(indices, one, mean)
                value = predict(indices, one, mean, parameters, parameters.value).value
                positive = np.maximum(value, 0)
                known = [spread, lines, positive, np.full_like(value, UNIT), own]
                missed = np.abs(UNIT * indices[one.tokens] - value)
                errors.add(one.kind, known, missed, own + (first + second) // 2)
    for kind in range(1, KINDS):
        parameters.error[kind] = errors.solve(kind)
    return parameters


def _ordered(
    indices: NDArray[np.int32], one: Pass, mean: Ints, own: ChannelWeights, parameters: Parameters
) -> tuple[Prediction, NDArray[np.int32]]:
    """Return the prediction and the indices of a pass, the channels in decoding order."""
    ordered = np.ascontiguousarray(indices[:, own.order])
    prediction = predict(ordered, one, mean[own.order], parameters, own.value)
    return prediction, ordered[one.tokens]


def _fit_refined(
    sources: Sequence[Source], weights: Sequence[ChannelWeights], parameters: Parameters
) -> Parameters:
    """Fit the expected errors of what is predicted from other channels too."""
    errors = _Squares(4)
    for source, own in zip(sources, weights, strict=True):
        for indices, listed, mean in _quantised(source, parameters):
            for one in listed:
                prediction, true = _ordered(indices, one, mean, own, parameters)
                for group, (start, end) in enumerate(pairwise(own.bounds)):
                    value, error, lively = refinement(prediction, one, true, group, own)
                    known = [error, lively, np.maximum(value, 0), np.full_like(value, UNIT)]
                    missed = np.abs(UNIT * true[:, start:end] - value)
                    errors.add(one.kind, known, missed, error)
    for kind in range(KINDS):
        parameters.refined[kind] = errors.solve(kind)
    return parameters


def see(source: Source, own: ChannelWeights, parameters: Parameters) -> Seen:
    """Count the symbols of every channel in every cell."""
    # contexts() tells the high and the low half of a cell's number as if they were its class.
    number = np.broadcast_to(np.arange(math.prod(CELLS[1:])).reshape(CELLS[1:]), CELLS)
    halves = [dataclasses.replace(parameters, classes=half.astype(np.uint8)) for half in
              (number >> 8, number & 255)]  # fmt: skip
    found, often = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for indices, listed, mean in _quantised(source, parameters):
        places = []
        for one in listed:
            prediction, true = _ordered(indices, one, mean, own, parameters)
            for group, (start, end) in enumerate(pairwise(own.bounds)):
                refined = refine(prediction, one, true, group, own, parameters)
                high, low = (contexts(refined, own.shape[start:end], half) for half in halves)
                cell = high.classes.astype(np.int64) << 8 | low.classes
                cell += np.arange(start, end) * number[0].size
                symbols = symbols_of(true[:, start:end], low)
                places.append((cell * ALPHABET + symbols).ravel())
        added, times = np.unique(np.concatenate(places), return_counts=True)
        found, where = np.unique(np.concatenate([found, added]), return_inverse=True)
        often = np.bincount(where, np.concatenate([often, times])).astype(np.int64)
    cell, symbol = np.divmod(found, ALPHABET)
    channel, cell = np.divmod(cell, number[0].size)
    return Seen(channel, cell, symbol, often)


def _peakedness(source: Source, own: ChannelWeights) -> NDArray[np.float64]:
    """Return each channel's mean square over its mean's, on a logarithmic scale."""
    pooled = np.concatenate(source.fitted)[:, own.order].astype(np.float64)
    means = np.maximum(pooled.mean(axis=0), 1e-9)
    peaked: NDArray[np.float64] = np.log(np.square(pooled).mean(axis=0) / means**2 + 1e-9)
    return peaked


def round_source(
    source: Source,
    weights: ChannelWeights,
    thresholds: Floats,
    parameters: Parameters,
    see: Callable[[Rounded], None],
) -> None:
    """Round what is to be counted at every SNR; see `round_samples`."""
    counted = Samples(source.counted, source.grid, source.offsets)
    steps = map(source.step_exponent, SNRS_DB)
    round_samples(counted, steps, weights, thresholds, parameters, see)


def _count(
    histograms: Histograms,
    share: int,
    part: Rounded,
) -> None:
    _, values, indices, how = part
    classes = how.classes.astype(np.int64)
    cells = (classes * ALPHABET + symbols_of(indices, how)).ravel()
    counts = np.bincount(cells, minlength=CLASSES * ALPHABET)
    histograms.indices[...] += share * counts.reshape(CLASSES, -1)
    whole = how.low_bits == 0
    cells = classes[whole] * CENTROIDS + np.minimum(indices[whole], CENTROIDS - 1)
    beyond = np.clip(values[whole] - indices[whole], -4, 4) * CENTROID_UNIT
    sums = np.bincount(cells, np.floor(beyond), minlength=CLASSES * CENTROIDS)
    histograms.offsets[...] += share * sums.astype(np.int64).reshape(CLASSES, -1)
