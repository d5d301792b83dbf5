"""Codecs on a source: every one is measured in the same way, and counts and scores are true."""

from collections.abc import Sequence

import numpy as np
import pytest
from featurewire_bench.baselines import ANCHOR, BASELINES
from featurewire_bench.measured import Measured
from featurewire_bench.own_codec import OURS, PLAIN
from featurewire_bench.rate_distortion import measure
from featurewire_bench.sources import Array, Part, Source
from featurewire_codec import FeatureCodec, Profile


def correlated(samples: int, tokens: int, channels: int, seed: int) -> list[Array]:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).standard_normal((channels, channels)) / np.sqrt(channels)
    return [
        (rng.standard_normal((tokens, channels)) @ mixing * 3 + 1).astype(np.float32)
        for _ in range(samples)
    ]


def part(name: str, channels: int = 24) -> Part:
    return Part(name, correlated(12, 100, channels, 1), correlated(3, 80, channels, 2))


def largest_error(decoded: Sequence[Sequence[Array]]) -> float:
    return float(max(np.abs(values).max() for samples in decoded for values in samples))


@pytest.fixture(scope="module")
def measured() -> Measured:
    source = Source("test", "tiny", "random", [part("a"), part("b", 12)], "peak, -", largest_error)
    return measure(source, snrs_db=(10.0, 20.0))


def test_every_codec_has_a_point_for_each_setting(measured: Measured) -> None:
    counts = dict.fromkeys((OURS, PLAIN, *(method.name for method in BASELINES)), 0)
    for point in measured.points:
        counts[point.codec] = counts.get(point.codec, 0) + 1
    with_knob = {method.name for method in BASELINES if method.has_knob} | {OURS, PLAIN}
    for codec, count in counts.items():
        assert count == (2 if codec in with_knob or codec.startswith(OURS) else 1), codec
    assert all(p.encode_mfeatures_s > 0 and p.decode_mfeatures_s > 0 for p in measured.points)


def test_the_snr_asked_for_is_reached_and_costs_less_with_a_profile(measured: Measured) -> None:
    ours = [point for point in measured.points if point.codec == OURS]
    plain = [point for point in measured.points if point.codec == PLAIN]
    for mine, other, snr_db in zip(ours, plain, (10.0, 20.0), strict=True):
        assert abs(mine.snr_db - snr_db) < 1
        assert mine.bpfp < other.bpfp


def test_both_parts_are_counted(measured: Measured) -> None:
    assert measured.features == 3 * 80 * (24 + 12)
    float16 = next(point for point in measured.points if point.codec == "float16")
    assert float16.bpfp == 16
    assert float16.asked_snr_db is None
    peak = largest_error([part("a").tests, part("b", 12).tests])
    assert float16.metric == pytest.approx(peak, rel=1e-3)
    assert measured.unsplit == pytest.approx(peak)


def test_bits_and_snr_are_those_of_the_streams() -> None:
    one = part("a")
    profile = Profile.calibrate(one.calibration)
    source = Source("test", "one", "", [Part("a", one.calibration, one.tests, shipped=profile)])
    point = next(p for p in measure(source, snrs_db=(15.0,)).points if p.codec == OURS)
    codec = FeatureCodec(profile)
    streams = [codec.encode(sample, 15.0) for sample in one.tests]
    tests = np.concatenate(one.tests)
    error = np.concatenate([codec.decode(data).numpy() for data in streams]) - tests
    assert point.bpfp == 8 * sum(map(len, streams)) / tests.size
    assert point.snr_db == pytest.approx(10 * np.log10(tests.var(0).mean() / np.mean(error**2)))
    assert point.pooled_snr_db == pytest.approx(10 * np.log10(tests.var() / np.mean(error**2)))


def test_the_gaussian_figure_lies_below_what_a_uniform_step_needs(measured: Measured) -> None:
    figure = dict(measured.gaussian)
    for point in measured.points:
        if point.codec == ANCHOR and 10 <= point.snr_db <= 20:
            assert figure[float(int(point.snr_db))] < point.bpfp
