"""The baselines give back what they were given, as closely as their number formats allow."""

import pytest
import torch
from featurewire_bench.baselines import BASELINES, Baseline
from featurewire_bench.metrics import snr


@pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.name)
@pytest.mark.parametrize("shape", [(1, 1), (7, 24), (64, 48)])
def test_a_feature_comes_back(baseline: Baseline, shape: tuple[int, int]) -> None:
    feature = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 + 1
    decoded = baseline.decode(baseline.encode(feature), shape)
    assert decoded.dtype == torch.float32
    assert decoded.shape == shape
    torch.testing.assert_close(decoded, feature, rtol=0.01, atol=0.05)
    if shape[0] > 1:
        assert snr(decoded, feature) > 30


def test_sizes_before_entropy_coding_are_known() -> None:
    feature = torch.zeros(16, 32)
    sizes = {b.name: len(b.encode(feature)) for b in BASELINES}
    assert sizes["float16"] == 16 * 32 * 2
    assert sizes["int8 per token + zlib"] < 16 * 4 + 32  # a scale a token, and nothing to say
