"""Calibration: features of a domain in, the profile that codes held-out ones of them best out.

The modes are fitted on most of the samples and compared by the bytes they make of the rest.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .block_dct import BlockDct
from .codec import FeatureCodec, distortion
from .entropy_model import LEVELS_PER_OCTAVE, UNIT_LEVEL
from .errors import CalibrationWarning, FeatureError
from .feature import Feature, as_array, clip_giants, energy
from .profile import Profile
from .quantiser import nearest_step_exponent
from .transform import ChannelKlt, Geometry, Identity, Transform

Arrays = Sequence[NDArray[np.float32]]

MIN_TOKENS_A_CHANNEL = 8  # below it a KLT is shrunk, and a person warned
BLOCKS = (4, 8)
MAX_MATRIX_VALUES = 1 << 24  # beyond it (64 MiB) a block transform shares one KLT
COMPARED_SNR_DB = (15.0, 25.0)
_MAX_MEASURED_FEATURES = 1 << 20
_MIN_ROWS_HELD_OUT = 64
_OFFSET_LIMIT = 1000
_RATE_POINTS = range(-18, 4)  # half-octaves of the step, around the one for an SNR of 0 dB


def calibrate(samples: Iterable[Feature], grid: tuple[int, int] | None = None) -> Profile:
    """Learn a profile; see `Profile.calibrate`."""
    arrays = [as_array(sample) for sample in samples]
    _check(arrays, grid)
    tokens, channels = sum(len(array) for array in arrays), arrays[0].shape[1]
    if tokens < MIN_TOKENS_A_CHANNEL * channels:
        warnings.warn(
            f"{tokens} calibration tokens for {channels} channels: "
            f"{2 * MIN_TOKENS_A_CHANNEL * channels} or more make a good profile",
            CalibrationWarning,
            stacklevel=3,
        )
    scale = energy(np.concatenate(arrays))
    fitted, held_out = split_samples(arrays, grid)
    measured = _subset(held_out)
    best: tuple[float, str, Profile] | None = None
    figures: dict[str, Any] = {}
    for name, transform in fit_transforms(fitted, grid):
        profile = _control_rate(transform, scale, measured, arrays, held_out, grid)
        rates = [coded_bpfp(profile, measured, snr_db, grid) for snr_db in COMPARED_SNR_DB]
        figures[name] = dict(zip(map(str, COMPARED_SNR_DB), rates, strict=True))
        if best is None or sum(rates) < best[0]:
            best = sum(rates), name, profile
    assert best is not None  # identity is always there
    _, kept, profile = best
    report = {
        "kept": kept,
        "tokens": tokens,
        "samples": len(arrays),
        "grid": grid,
        "held_out_features": sum(array.size for array in measured),
        "bpfp_by_mode_and_snr_db": figures,
    }
    return replace(profile, report=report)


def split_samples(arrays: Arrays, grid: tuple[int, int] | None) -> tuple[Arrays, Arrays]:
    """Split samples into those to fit on and those to hold out, about a fifth."""
    if len(arrays) >= 5 or (grid and len(arrays) > 1):
        held_out = list(arrays[4::5]) or [arrays[-1]]
        fitted = [array for number, array in enumerate(arrays) if number % 5 != 4]
        return (fitted if len(arrays) >= 5 else arrays[:-1]), held_out
    tokens = sum(len(array) for array in arrays)
    if grid or tokens < 10:  # nothing can be spared
        return arrays, arrays
    pooled = np.concatenate(arrays)
    return [pooled[: tokens * 4 // 5]], [pooled[tokens * 4 // 5 :]]


def fit_transforms(arrays: Arrays, grid: tuple[int, int] | None) -> Iterable[tuple[str, Transform]]:
    """Fit every mode, yielding its name and transform; giants are clipped first."""
    clipped = clip_giants(np.concatenate(arrays))
    mean = clipped.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = clipped - mean
    yield "identity", Identity(mean)
    covariance = centred.T @ centred
    yield "klt", ChannelKlt(mean, _principal_components(covariance, len(centred)))
    if grid:
        ends = np.cumsum([len(array) for array in arrays])
        samples = np.split(clipped, ends[:-1])
        for block in BLOCKS:
            if max(grid) >= block:
                yield f"dct{block}", _fit_block_dct(samples, grid, block)


def column_offsets(
    transform: Transform, arrays: Arrays, grid: tuple[int, int] | None
) -> NDArray[np.int32]:
    """Measure the level of each column at a step of one: quarter-octaves of its mean magnitude."""
    total = np.zeros(transform.columns)
    count = np.zeros(transform.columns)
    clipped = np.split(
        clip_giants(np.concatenate(arrays)), np.cumsum([len(array) for array in arrays])[:-1]
    )
    for array in clipped:
        geometry = Geometry.of(array, grid)
        layout = transform.layout(geometry, range(len(array)))
        assert layout is not None  # all of a sample is a span of every transform
        magnitude = np.abs(transform.forward(array, geometry, range(len(array))))
        total += np.bincount(layout.column, magnitude, minlength=transform.columns)
        count += np.bincount(layout.column, minlength=transform.columns)
    mean = total / np.maximum(count, 1)
    mean[count == 0] = mean.max()  # never seen: as large as any
    octaves = np.log2(np.maximum(mean, 2.0 ** (-_OFFSET_LIMIT / LEVELS_PER_OCTAVE)))
    levels = np.rint(LEVELS_PER_OCTAVE * octaves) + UNIT_LEVEL
    offsets: NDArray[np.int32] = np.clip(levels, -_OFFSET_LIMIT, _OFFSET_LIMIT).astype(np.int32)
    return offsets


def coded_bpfp(
    profile: Profile, arrays: Arrays, snr_db: float, grid: tuple[int, int] | None
) -> float:
    """Encode the samples and count: bits per feature point, everything included."""
    codec = FeatureCodec(profile)
    coded = sum(len(codec.encode(array, snr_db, grid)) for array in arrays)
    return 8 * coded / sum(array.size for array in arrays)


def _check(arrays: Arrays, grid: tuple[int, int] | None) -> None:
    if not arrays:
        raise FeatureError("a profile is calibrated from at least one feature, none was given")
    widths = sorted({array.shape[1] for array in arrays})
    if len(widths) > 1:
        raise FeatureError(f"the samples have {widths} channels, a profile is for one width")
    if grid and not (min(grid) > 0 and grid[0] * grid[1] <= min(len(array) for array in arrays)):
        fewest = min(len(array) for array in arrays)
        raise FeatureError(f"a grid of {grid[0]} x {grid[1]} is not within {fewest} tokens")


def _subset(arrays: Arrays) -> Arrays:
    """Take samples spread evenly, about as much as measuring needs."""
    total = sum(array.size for array in arrays)
    return arrays[:: -(-total // _MAX_MEASURED_FEATURES)]


def _control_rate(
    transform: Transform,
    scale: float,
    measured: Arrays,
    arrays: Arrays,
    held_out: Arrays,
    grid: tuple[int, int] | None,
) -> Profile:
    """Measure the scales of the columns, and the SNR at steps half an octave apart."""
    # Scales from the very tokens that the KLT was fitted on are too small.
    enough = sum(len(array) for array in held_out) >= _MIN_ROWS_HELD_OUT
    offsets = column_offsets(transform, held_out if enough else arrays, grid)
    middle = nearest_step_exponent(float(np.sqrt(12.0 * scale)))
    steps = np.array([middle + 16 * point for point in _RATE_POINTS], np.int32)
    profile = Profile(transform, scale, offsets, steps, np.zeros(len(steps)), {})
    errors = np.zeros(len(steps))
    for array in measured:
        geometry = Geometry.of(array, grid)
        span = range(len(array))
        values = transform.forward(array, geometry, span)
        layout = transform.layout(geometry, span)
        assert layout is not None  # all of a sample is a span of every transform
        errors += [values.size * distortion(values, layout, profile, int(j)) for j in steps]
    errors /= sum(array.size for array in measured)
    snr_db = 10 * np.log10(scale / np.maximum(errors, scale * 1e-15))
    # The SNR rises as the step falls, until rounding or an all-zero feature levels it off.
    keep = [len(steps) - 1]
    for place in range(len(steps) - 2, -1, -1):
        if snr_db[place] > snr_db[keep[-1]] + 0.1:
            keep.append(place)
    return replace(profile, step_exponents=steps[keep], snr_db=snr_db[keep])


def _fit_block_dct(samples: Arrays, grid: tuple[int, int], block: int) -> BlockDct:
    channels = samples[0].shape[1]
    prefix = len(samples[0]) - grid[0] * grid[1]
    mean = np.concatenate([sample[prefix:] for sample in samples]).mean(axis=0)
    prefix_mean = np.concatenate([s[:prefix] for s in samples]).mean(axis=0) if prefix else mean
    shared = block**2 * channels**2 > MAX_MATRIX_VALUES
    count = 1 if shared else block**2
    half_way = BlockDct(mean, prefix_mean, np.eye(channels, dtype=np.float32)[None], block)
    covariances = np.zeros((count, channels, channels))
    blocks = np.zeros(count, np.int64)
    for sample in samples:
        geometry = Geometry.of(sample, grid)
        _, spectra = half_way.spectra(sample, geometry, range(len(sample)))
        for frequencies, spectrum in spectra:
            grams = spectrum.swapaxes(-1, -2) @ spectrum
            places = np.zeros_like(frequencies) if shared else frequencies
            np.add.at(covariances, places, grams)
            np.add.at(blocks, places, spectrum.shape[2])
    matrices = [
        _principal_components(gram, int(number))
        for gram, number in zip(covariances, blocks, strict=True)
    ]
    return BlockDct(mean, prefix_mean, np.stack(matrices), block)


def _principal_components(gram: NDArray[np.floating], count: int) -> NDArray[np.float32]:
    """Return the eigenvectors of a covariance, the largest first; few samples shrink it."""
    channels = len(gram)
    gram = gram.astype(np.float64)
    if count < MIN_TOKENS_A_CHANNEL * channels:
        weight = channels / (count + channels)
        gram = (1 - weight) * gram + weight * np.diag(np.diag(gram))
    return np.ascontiguousarray(np.linalg.eigh(gram)[1][:, ::-1], dtype=np.float32)
