"""Calibration: features of a domain in, the profile that codes held-out ones of them best out.

The modes are fitted on most of the samples and compared by the bytes they make of the rest.
"""

import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .codec import FeatureCodec
from .coefficients import Offsets, Side
from .errors import CalibrationWarning, FeatureError
from .feature import (
    BOUNDS_OF_MANY,
    Feature,
    as_array,
    checked_shape,
    giant_bounds,
    pair_of,
    pooled_energy,
)
from .fitting import MIN_TOKENS_A_CHANNEL, Arrays, column_offsets, fit_transforms, fit_weighted
from .one_sided_chunk import quantise_walk
from .one_sided_transform import OneSided
from .profile import Profile
from .quantiser import BIT_WORTH, EFFORTS, Effort, nearest_step_exponent
from .span import quantise_values, rebuild, rounding_for
from .task_comparison import TaskComparison, TaskError
from .task_weight import checked_metric, half_strength
from .transform import NO_INDEX, ChannelKlt, Floats, Geometry, Transform

COMPARED_SNR_DB = (15.0, 25.0)
NARROW = 1.3  # times the bits of fitted samples: held-out ones that take more were not represented
_MAX_MEASURED_FEATURES = 1 << 20
_MAX_SEARCHED_FEATURES = 1 << 18
_MIN_ROWS_HELD_OUT = 64
MIN_ENERGY_FITTED, MAX_ENERGY_FITTED = 1e-30, 1e30
_RATE_POINTS = range(-18, 4)  # half-octaves of the step, around the one for an SNR of 0 dB


def calibrate(
    samples: Iterable[Feature],
    grid: tuple[int, int] | None = None,
    metric: "Feature | None" = None,
    task_error: TaskError | None = None,
) -> Profile:
    """Learn a profile; see `Profile.calibrate`."""
    if task_error is not None and metric is None:
        raise FeatureError("task_error judges the modes that a metric weights: give both")
    if not isinstance(samples, Iterable):
        kind = type(samples).__name__
        raise FeatureError(f"samples are a list of features, these are a {kind}")
    grid = pair_of("grid", grid, FeatureError)
    arrays = [as_array(sample) for sample in samples]
    _check(arrays, grid)
    tokens, channels = sum(len(array) for array in arrays), arrays[0].shape[1]
    minded = None
    if metric is not None:
        checked_shape(metric, "metric")
        minded = checked_metric(metric, channels)
    small = tokens < MIN_TOKENS_A_CHANNEL * channels
    if small:
        warnings.warn(
            f"{tokens} calibration tokens for {channels} channels: "
            f"{2 * MIN_TOKENS_A_CHANNEL * channels} or more make a good profile",
            CalibrationWarning,
            stacklevel=3,
        )
    scale = pooled_energy(arrays, giant_bounds(arrays, BOUNDS_OF_MANY))
    if not MIN_ENERGY_FITTED <= scale <= MAX_ENERGY_FITTED:  # covariances are float32 as well
        raise FeatureError(
            f"the samples have an energy of {scale:.3g}, a profile is fitted to "
            f"{MIN_ENERGY_FITTED:g} to {MAX_ENERGY_FITTED:g}: scale them"
        )
    fitted, held_out = split_samples(arrays, grid)
    measured = _subset(held_out)
    best: tuple[float, str, Profile] | None = None
    figures: dict[str, Any] = {}
    for name, transform in fit_transforms(fitted, grid, scale):
        profile = _control_rate(transform, scale, measured, arrays, held_out, grid)
        rates = [coded_bpfp(profile, measured, snr_db, grid) for snr_db in COMPARED_SNR_DB]
        figures[name] = dict(zip(map(str, COMPARED_SNR_DB), rates, strict=True))
        if best is None or sum(rates) < best[0]:
            best = sum(rates), name, profile
    assert best is not None  # identity is always there
    _, kept, profile = best
    task: dict[str, Any] = {}
    if minded is not None:
        name, transform = fit_weighted(
            profile.transform, fitted, grid, scale, half_strength(minded)
        )
        weighted = _control_rate(transform, scale, measured, arrays, held_out, grid)
        rates = [coded_bpfp(weighted, measured, snr_db, grid) for snr_db in COMPARED_SNR_DB]
        figures[name] = dict(zip(map(str, COMPARED_SNR_DB), rates, strict=True))
        numbers = {id(array): number for number, array in enumerate(arrays)}
        whole = all(id(array) in numbers for array in measured)  # no sample was cut
        named = {numbers.get(id(array), -1 - place): array for place, array in enumerate(measured)}
        comparison = TaskComparison(
            minded, task_error if whole else None, named, grid, COMPARED_SNR_DB
        )
        task["task"] = comparison.report((kept, profile), (name, weighted))
        if task["task"]["kept"]:
            kept, profile = name, weighted
    first = str(COMPARED_SNR_DB[0])
    known = figures[kept][first]
    if held_out is not fitted:
        known = coded_bpfp(profile, _subset(fitted), COMPARED_SNR_DB[0], grid)
    if not small and figures[kept][first] > NARROW * known:
        warnings.warn(
            f"held-out samples take {figures[kept][first] / known - 1:.0%} more bits than those "
            "the profile was fitted on: calibrate on more samples, and more kinds of them",
            CalibrationWarning,
            stacklevel=3,
        )
    report = task | {
        "kept": kept,
        "fitted_bpfp_at_15_db": known,
        "tokens": tokens,
        "samples": len(arrays),
        "grid": grid,
        "held_out_features": sum(array.size for array in measured),
        "bpfp_by_mode_and_snr_db": figures,
    }
    return replace(profile, report=report, trellis_snr_db=_trellis_snr_db(profile, measured, grid))


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


def coded_bpfp(
    profile: Profile, arrays: Arrays, snr_db: float, grid: tuple[int, int] | None
) -> float:
    """Encode the samples and count: bits per feature point, everything included."""
    codec = FeatureCodec(profile)
    coded = sum(len(codec.encode(array, snr_db, grid)) for array in arrays)
    return 8 * coded / sum(array.size for array in arrays)


def squared_error(
    profile: Profile,
    array: Floats,
    grid: tuple[int, int] | None,
    step_exponent: int,
    effort: Effort = "fast",
) -> float:
    """Sum the squared errors of a feature, or of its coefficients, coded at a step."""
    geometry, span, transform = Geometry.of(array, grid), range(len(array)), profile.transform
    if isinstance(transform, OneSided):
        walked = transform.walk(geometry, span, profile.offsets, step_exponent)
        assert walked is not None
        there = quantise_walk(array, walked, walked.weights.thresholds(BIT_WORTH))[1]
        return float(np.sum((there - array) ** 2, dtype=np.float64))
    index = transform.search(array)
    values = transform.forward(array, geometry, span, index)
    layout = transform.layout(geometry, span, index)
    assert layout is not None  # all of a sample is a span of every transform
    side = Side(False, 0, index, NO_INDEX, NO_INDEX)
    offsets, rounding = Offsets(profile.offsets), rounding_for(effort)
    coded = quantise_values(values, layout, offsets, side, step_exponent, rounding)
    rebuilt = rebuild(coded.symbols, coded.panels, step_exponent)
    if transform.weight is not None:  # the matrices are not orthonormal: the feature's own error
        missed = transform.inverse(rebuilt, geometry, span, index) - array
        return float(np.sum(missed**2, dtype=np.float64))
    pairs = zip(rebuilt, values, strict=True)
    return float(sum(np.sum((there - here) ** 2, dtype=np.float64) for there, here in pairs))


def _check(arrays: Arrays, grid: tuple[int, int] | None) -> None:
    if not arrays:
        raise FeatureError("a profile is calibrated from at least one feature, none was given")
    widths = sorted({array.shape[1] for array in arrays})
    if len(widths) > 1:
        raise FeatureError(f"the samples have {widths} channels, a profile is for one width")
    if grid and not (min(grid) > 0 and grid[0] * grid[1] <= min(len(array) for array in arrays)):
        fewest = min(len(array) for array in arrays)
        raise FeatureError(f"a grid of {grid[0]} x {grid[1]} is not within {fewest} tokens")


def _subset(arrays: Arrays, features: int = _MAX_MEASURED_FEATURES) -> Arrays:
    """Take samples spread evenly, about as much as measuring needs."""
    total = sum(array.size for array in arrays)
    return arrays[:: -(-total // features)]


def _trellis_snr_db(
    profile: Profile, arrays: Arrays, grid: tuple[int, int] | None
) -> NDArray[np.float64]:
    """Measure the SNR with the trellis at the steps of a profile's rate control.

    On fewer samples than the SNR without it, so what is measured is how the two differ.
    """
    some = _subset(arrays, _MAX_SEARCHED_FEATURES)
    steps = profile.step_exponents.tolist()
    errors = np.full((2, len(steps)), 1e-15 * profile.energy)
    for array in some:
        for number, effort in enumerate(EFFORTS):
            errors[number] += [squared_error(profile, array, grid, j, effort) for j in steps]
    snr_db = profile.snr_db + 10 * np.log10(errors[0] / errors[1])
    # Rising, as a person would expect, even where rounding levels it off.
    rising: NDArray[np.float64] = np.maximum.accumulate(snr_db) + 1e-6 * np.arange(len(steps))
    return rising


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
    if isinstance(transform, ChannelKlt):  # columns in coding order need no sorting later
        order = np.argsort(offsets, kind="stable")
        matrix, offsets = transform.matrix[:, order], offsets[order]
        transform = ChannelKlt(transform.mean, matrix, transform.weight)
    middle = nearest_step_exponent(float(np.sqrt(12.0 * scale)))
    steps = np.array([middle + 16 * point for point in _RATE_POINTS], np.int32)
    profile = Profile(transform, scale, offsets, steps, np.zeros(len(steps)), {})
    errors = np.zeros(len(steps))
    for array in measured:
        errors += [squared_error(profile, array, grid, int(j)) for j in steps]
    errors /= sum(array.size for array in measured)
    snr_db = 10 * np.log10(scale / np.maximum(errors, scale * 1e-15))
    # The SNR rises as the step falls, until rounding or an all-zero feature levels it off.
    keep = [len(steps) - 1]
    for place in range(len(steps) - 2, -1, -1):
        if snr_db[place] > snr_db[keep[-1]] + 0.1:
            keep.append(place)
    return replace(profile, step_exponents=steps[keep], snr_db=snr_db[keep])
