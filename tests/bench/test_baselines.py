"""The baselines give back what they were given, as closely as they promise."""

import numpy as np
import pytest
import torch
from featurewire_bench.baselines import ANCHOR, BASELINES, CHANNEL_TABLES, Coder, Method
from featurewire_bench.baselines.dt_ufc import dt_ufc_methods
from featurewire_bench.baselines.number_formats import ScaledIntegers, ShuffledBfloat16
from featurewire_bench.sources import Array, Part


def normal(tokens: int, channels: int, seed: int = 1) -> Array:
    """Channels of rising scale."""
    values = np.random.default_rng(seed).standard_normal((tokens, channels))
    return (values * np.linspace(0.5, 2.0, channels)).astype(np.float32)


def part(channels: int = 24) -> Part:
    samples = [normal(200, channels, seed) for seed in range(5, 9)]
    return Part("hidden", samples, [normal(64, channels, 20)])


def back(coder: Coder, feature: Array) -> Array:
    decoded = coder.decode(coder.encode(feature), (feature.shape[0], feature.shape[1]))
    assert decoded.dtype == np.float32
    assert decoded.shape == feature.shape
    return decoded


def snr(decoded: Array, feature: Array) -> float:
    return float(10 * np.log10(feature.var() / np.mean((decoded - feature) ** 2)))


@pytest.mark.parametrize("method", BASELINES, ids=lambda method: method.name)
@pytest.mark.parametrize("tokens", [1, 9, 10, 31])
def test_a_feature_of_any_length_comes_back(method: Method, tokens: int) -> None:
    feature = normal(tokens, 24)
    decoded = back(method.fit(part(), 30.0), feature)
    np.testing.assert_allclose(decoded, feature, atol=0.35)


@pytest.mark.parametrize("method", [m for m in BASELINES if m.has_knob], ids=lambda m: m.name)
def test_a_higher_setting_costs_more_and_keeps_more(method: Method) -> None:
    feature, size, kept = normal(300, 24), [], []
    for snr_db in (10.0, 22.0):
        coder = method.fit(part(), snr_db)
        size.append(len(coder.encode(feature)))
        kept.append(snr(back(coder, feature), feature))
    assert size[1] > size[0] + feature.size / 8  # at least one bit more for 12 dB
    assert kept[1] - kept[0] > 9


def test_static_tables_code_at_the_entropy_of_their_symbols() -> None:
    source = part()
    feature = source.tests[0]
    coder = next(m for m in BASELINES if m.name == ANCHOR).fit(source, 20.0)
    step = source.step(20.0)
    seen = np.rint(np.concatenate(source.calibration) / step).astype(int).ravel()
    chances = (np.bincount(seen + 400, minlength=800) + 0.25) / len(seen)
    symbols = np.rint(feature / step).astype(int).ravel()
    ideal = float(-np.log2(chances[symbols + 400]).sum() / 8)
    assert abs(len(coder.encode(feature)) - ideal) < 0.01 * ideal + 12


@pytest.mark.parametrize("name", [ANCHOR, CHANNEL_TABLES, "CacheGen style"])
def test_values_that_no_table_holds_escape(name: str) -> None:
    feature = normal(40, 24)
    feature[3, 5], feature[17, 5] = 9000.0, -12345.0
    coder = next(m for m in BASELINES if m.name == name).fit(part(), 20.0)
    decoded = back(coder, feature)
    assert abs(decoded[3, 5] - 9000.0) < 1
    assert abs(decoded[17, 5] + 12345.0) < 1


def test_a_table_for_each_channel_beats_one_for_all() -> None:
    source = part()
    by_name = {method.name: method for method in BASELINES}
    sizes = [
        len(by_name[name].fit(source, 20.0).encode(normal(400, 24)))
        for name in (CHANNEL_TABLES, ANCHOR)
    ]
    assert sizes[0] < sizes[1]


def test_bfloat16_is_torchs() -> None:
    feature = normal(50, 24)
    expected = torch.from_numpy(feature).bfloat16().float().numpy()
    assert np.array_equal(back(ShuffledBfloat16(), feature), expected)


@pytest.mark.parametrize(("coder", "top"), [(ScaledIntegers(8), 127), (ScaledIntegers(4, 8), 7)])
def test_scaled_integers_are_within_half_a_scale(coder: ScaledIntegers, top: int) -> None:
    feature = normal(13, 21)
    group = coder.group or 21
    decoded = back(coder, feature)
    for start in range(0, 21, group):
        columns = slice(start, start + group)
        scale = np.abs(feature[:, columns]).max(1, keepdims=True) / top
        error = np.abs(decoded[:, columns] - feature[:, columns])
        assert (error <= 0.51 * scale + top * scale / 1024).all()  # a float16 scale is rounded


@pytest.mark.parametrize("name", ["zfp", "SZ3"])
@pytest.mark.parametrize("grid", [None, (8, 8)])
def test_scientific_compressors_keep_their_bound_on_grids_too(
    name: str, grid: tuple[int, int] | None
) -> None:
    smooth = np.cumsum(normal(64, 24), axis=0) / 4
    source = Part("map", [smooth], [smooth], grid, grid)
    coder = next(m for m in BASELINES if m.name == name).fit(source, 20.0)
    bound = coder.tolerance if name == "zfp" else coder.bound  # type: ignore[attr-defined]
    assert np.abs(back(coder, smooth) - smooth).max() <= 1.0001 * bound


def test_dt_ufc_has_a_setting_for_each_network() -> None:
    source = part()
    for method in dt_ufc_methods():
        assert method.settings is not None
        settings = method.settings(source)
        sizes = set[int]()
        for snr_db in settings:
            coder = method.fit(source, snr_db)
            sizes.add(len(coder.encode(source.tests[0])))
            back(coder, source.tests[0])
        assert len(sizes) == len(settings)
