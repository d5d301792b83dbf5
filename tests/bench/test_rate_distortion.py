"""Codecs on a feature: every one is measured, and more decibels cost more bits."""

import torch
from featurewire_bench.baselines import BASELINES
from featurewire_bench.rate_distortion import FeatureSet, measure_codecs


def test_every_codec_gives_a_point_for_each_setting() -> None:
    generator = torch.Generator().manual_seed(3)
    samples = [torch.randn(40, 32, generator=generator) for _ in range(2)]
    features = FeatureSet("tiny", samples, grid=None, profile=None)
    points = list(measure_codecs(features, snrs_db=(10.0, 25.0)))
    assert [point.codec for point in points[2:]] == [baseline.name for baseline in BASELINES]
    coarse, fine = points[:2]
    assert coarse.codec == fine.codec == "no profile"
    assert (coarse.asked_snr_db, fine.asked_snr_db) == (10.0, 25.0)
    assert coarse.bpfp < fine.bpfp < 16
    assert abs(coarse.snr_db - 10) < 2
    assert abs(fine.snr_db - 25) < 2
    float16 = points[2]
    assert float16.bpfp == 16
    assert float16.snr_db > 60
    assert all(min(point.encode_mfeatures_s, point.decode_mfeatures_s) > 0 for point in points)
