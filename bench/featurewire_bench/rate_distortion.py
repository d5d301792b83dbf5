"""Rate, distortion, task metric and speed of every codec on one source. No network takes part.

What is timed is encoding and decoding alone: everything is imported, compiled and calibrated
before, and the fastest of several passes over the tests counts. It is the process's own time on
processors, which what else the machine does changes less than it does the wall's.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from featurewire_codec import CalibrationWarning, Profile

from featurewire_bench.baselines import BASELINES, Coder, Method, Shape
from featurewire_bench.gaussian import GaussianFigure
from featurewire_bench.measured import Measured, Point
from featurewire_bench.own_codec import ours
from featurewire_bench.sources import Array, Source

SNRS_DB = (0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0)
PASSES = 3
ENOUGH_SECONDS = 0.6  # a codec that takes longer over the tests is timed once

Progress = Callable[[str], None]


def calibrated(source: Source) -> tuple[Source, float | None]:
    """The source with a profile for each part, and the seconds that took; shipped ones stay."""
    if all(part.shipped for part in source.parts):
        return source, None
    started = time.perf_counter()
    parts = []
    for part in source.parts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CalibrationWarning)  # the report says how many tokens
            profile = part.shipped or Profile.calibrate(part.calibration, part.grid)
        parts.append(replace(part, shipped=profile))
    return replace(source, parts=parts), time.perf_counter() - started


def measure(
    source: Source,
    snrs_db: Sequence[float] = SNRS_DB,
    progress: Progress | None = None,
    baselines: Sequence[Method] = BASELINES,
) -> Measured:
    """Every codec and setting on one source.

    Raises:
        CodecError: a profile cannot be calibrated or used.
    """
    torch.set_num_threads(1)
    tell = progress or (lambda name: None)
    tell("calibrating")
    source, seconds = calibrated(source)
    energy, pooled = _energies(source)
    figure = GaussianFigure.of(source.parts)
    points = list[Point]()
    for method in (*ours(), *baselines):
        tell(method.name)
        points += _points(method, source, snrs_db, (energy, pooled))
    gaussian_snrs = [float(snr) for snr in range(int(min(snrs_db)), int(max(snrs_db)) + 1)]
    return Measured(
        group=source.group,
        title=source.title,
        note=source.note,
        metric=source.metric,
        unsplit=source.unsplit,
        features=source.points,
        pooled_offset_db=10 * math.log10(pooled / energy),
        gaussian=[(snr, figure.bits(energy * 10 ** (-snr / 10))) for snr in gaussian_snrs],
        calibration_s=seconds,
        modes={part.name: _mode(part.shipped) for part in source.parts},
        points=points,
    )


def _mode(profile: Profile | None) -> str:
    return str(profile.report.get("kept", "?")) if profile else "none"


def _energies(source: Source) -> tuple[float, float]:
    """The zero of the SNR scale of the tests: about channel means, and about the single mean."""
    points = source.points
    about_channels = pooled = 0.0
    for part in source.parts:
        tests = np.concatenate(part.tests)
        if part.scale is not None:
            about_channels += part.scale * tests.size
            pooled += part.scale * tests.size
        else:
            about_channels += float(tests.var(axis=0, dtype=np.float64).mean()) * tests.size
            pooled += float(tests.var(dtype=np.float64)) * tests.size
    return about_channels / points, pooled / points


def _points(
    method: Method, source: Source, snrs_db: Sequence[float], energies: tuple[float, float]
) -> Iterator[Point]:
    seen = set[int]()
    if method.settings:
        snrs_db = method.settings(source.parts[0])
    for snr_db in snrs_db if method.has_knob else snrs_db[:1]:
        coders = [method.fit(part, snr_db) for part in source.parts]
        point = _point(method, source, coders, snr_db, energies)
        size = round(point.bpfp * source.points)
        if size not in seen:  # zfp rounds its tolerance to a power of two
            seen.add(size)
            yield point


def _point(
    method: Method,
    source: Source,
    coders: Sequence[Coder],
    snr_db: float,
    energies: tuple[float, float],
) -> Point:
    jobs = list(zip(source.parts, coders, strict=True))
    for part, coder in jobs:
        first = part.tests[0]
        coder.decode(coder.encode(first), _shape(first))
    encode_s = decode_s = math.inf
    for _ in range(PASSES):
        started = time.process_time()
        coded = [[coder.encode(sample) for sample in part.tests] for part, coder in jobs]
        encoded = time.process_time()
        decoded = [
            [
                coder.decode(data, _shape(sample))
                for data, sample in zip(streams, part.tests, strict=True)
            ]
            for (part, coder), streams in zip(jobs, coded, strict=True)
        ]
        ended = time.process_time()
        encode_s = min(encode_s, encoded - started)
        decode_s = min(decode_s, ended - encoded)
        if ended - started > ENOUGH_SECONDS:
            break
    mse = _squared_error(source, decoded) / source.points
    return Point(
        codec=method.name,
        asked_snr_db=snr_db if method.has_knob else None,
        snr_db=_snr(energies[0], mse),
        pooled_snr_db=_snr(energies[1], mse),
        bpfp=8 * sum(len(data) for streams in coded for data in streams) / source.points,
        metric=source.score(decoded) if source.score else None,
        encode_mfeatures_s=source.points / encode_s / 1e6,
        decode_mfeatures_s=source.points / decode_s / 1e6,
    )


def _squared_error(source: Source, decoded: Sequence[Sequence[Array]]) -> float:
    return sum(
        float(np.sum((ours - sample) ** 2, dtype=np.float64))
        for part, samples in zip(source.parts, decoded, strict=True)
        for ours, sample in zip(samples, part.tests, strict=True)
    )


def _snr(energy: float, mse: float) -> float:
    return 10 * math.log10(energy / max(mse, energy * 1e-20))


def _shape(sample: Array) -> Shape:
    return sample.shape[0], sample.shape[1]
