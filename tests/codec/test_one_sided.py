"""The one-sided mode: passes over a grid, contexts from what is decoded, frozen tables."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from featurewire_codec import BitstreamError, TableError, one_sided
from featurewire_codec import one_sided_training as training
from featurewire_codec.one_sided import (
    RAW_ERROR,
    UNIT,
    Contexts,
    Prediction,
    contexts,
    expected,
    passes,
    predict,
    refinement,
    walk,
)
from featurewire_codec.one_sided_fit import fit_channel_weights
from featurewire_codec.one_sided_rounding import Samples
from featurewire_codec.one_sided_shapes import Seen, choose_shapes, divide_shapes
from featurewire_codec.one_sided_symbols import (
    Symbols,
    dequantise,
    escapes,
    from_symbols,
    quantise,
    to_symbols,
)
from featurewire_codec.one_sided_tables import (
    FILE,
    KINDS,
    Histograms,
    index_bits,
    load_one_sided,
    save_one_sided,
)
from featurewire_codec.one_sided_weights import ChannelWeights
from featurewire_codec.quantiser import rounding_thresholds
from safetensors.numpy import load_file, save_file
from synthetic_features import make_one_sided

GRID = (20, 16)
STEP_EXPONENT = -32
PARAMETERS, TABLES = load_one_sided()
THRESHOLDS = rounding_thresholds(index_bits(TABLES), TABLES.centroids)


@pytest.fixture(scope="module")
def samples():
    return [make_one_sided(seed, *GRID) for seed in range(12)]


@pytest.fixture(scope="module")
def offsets(samples):
    return training.channel_offsets(samples)


@pytest.fixture(scope="module")
def weights(samples, offsets):
    return fit_channel_weights(samples, GRID, offsets, STEP_EXPONENT, PARAMETERS, groups=4)


@pytest.fixture(scope="module")
def alone(samples, offsets):
    """Weights of the neighbours only: no channel predicts another."""
    return fit_channel_weights(samples, GRID, offsets, STEP_EXPONENT, PARAMETERS, groups=1)


def encode(feature, listed, offsets, weights, step_exponent=STEP_EXPONENT):
    """Walk as an encoder does: the indices, the symbols of every part, and their ideal bits."""
    values = feature[:, weights.order] * np.float32(2.0 ** (-step_exponent / 32))
    parts, bits = [], [0.0]

    def fill(one, channels, how):
        indices = quantise(values[one.tokens, channels], how, THRESHOLDS)
        coded = to_symbols(indices, how, TABLES.radii)
        parts.append((coded, how))
        for number, symbol in zip(how.classes.ravel(), coded.symbols, strict=True):
            bits[0] += 14 - np.log2(TABLES.classes[number][symbol])
        bits[0] += float(how.low_bits.sum()) + 2 * np.log2(coded.excess + 1.0).sum()
        return indices

    indices = walk(listed, offsets, step_exponent, weights, fill, PARAMETERS, one_sided)
    return indices, parts, bits[0]


def decode(parts, listed, offsets, weights, step_exponent=STEP_EXPONENT):
    queue = iter(parts)

    def fill(one, channels, how):
        coded, encoded_how = next(queue)
        for own, encoded in zip(how, encoded_how, strict=True):
            np.testing.assert_array_equal(own, encoded)
        assert len(coded.excess) == escapes(coded.symbols, how, TABLES.radii).sum()
        return from_symbols(coded, how, TABLES.radii)

    return walk(listed, offsets, step_exponent, weights, fill, PARAMETERS, one_sided)


@pytest.mark.parametrize("shape", [(0, 16, 16), (3, 9, 7), (1, 1, 30), (0, 30, 1), (5, 0, 0)])
def test_every_token_is_in_one_pass_and_its_neighbours_in_earlier_ones(shape):
    prefix, rows, columns = shape
    done = np.zeros(prefix + rows * columns, bool)
    for one in passes(*shape):
        known = one.near[one.near >= 0]
        assert done[known].all()
        assert known.min(initial=prefix) >= prefix
        assert not done[one.tokens].any()
        done[one.tokens] = True
    assert done.all()


def test_each_pass_over_a_grid_has_weights_of_its_own():
    assert [one.kind for one in passes(2, *GRID)] == [0, *range(KINDS)]


def test_neighbours_lie_on_two_lines_through_their_token():
    for one in passes(0, *GRID):
        inside = (one.near >= 0).all(axis=1)
        y, x = np.divmod(one.near[inside], GRID[1])
        own_y, own_x = np.divmod(one.tokens[inside], GRID[1])
        for first, second in ((0, 1), (2, 3)):
            np.testing.assert_array_equal(y[:, first] + y[:, second], 2 * own_y)
            np.testing.assert_array_equal(x[:, first] + x[:, second], 2 * own_x)


@pytest.mark.parametrize("shape", [(0, *GRID), (4, 13, 16), (40, 0, 0)])
@pytest.mark.parametrize("step_exponent", [-300, -32, 90])
def test_a_decoder_finds_the_contexts_and_the_indices_of_the_encoder(
    samples, offsets, weights, shape, step_exponent
):
    listed = passes(*shape)
    feature = samples[0][: shape[0] + shape[1] * shape[2]]
    indices, parts, _ = encode(feature, listed, offsets, weights, step_exponent)
    assert (indices.max() > 1000) == (step_exponent == -300)
    np.testing.assert_array_equal(decode(parts, listed, offsets, weights, step_exponent), indices)


def test_values_are_rebuilt_to_within_a_step(samples, offsets, weights):
    feature, rebuilt = samples[1][:, weights.order], np.zeros_like(samples[1])

    def fill(one, channels, how):
        indices = quantise(feature[one.tokens, channels] * 2, how, THRESHOLDS)
        rebuilt[one.tokens, channels] = dequantise(indices, how, TABLES.centroids) / 2
        return indices

    walk(passes(0, *GRID), offsets, STEP_EXPONENT, weights, fill, PARAMETERS, one_sided)
    assert np.abs(rebuilt - feature).max() < 1.0
    assert np.mean((rebuilt - feature) ** 2) < 0.5**2 / 8


def static_bits(indices):
    """The entropy of each channel's own histogram: no static table does better."""
    bits = 0.0
    for column in indices.T:
        share = np.unique(column, return_counts=True)[1] / len(column)
        bits -= len(column) * float((share * np.log2(share)).sum())
    return bits


def test_contexts_beat_the_best_static_tables_and_channel_weights_beat_contexts(
    samples, offsets, weights, alone
):
    unseen = [make_one_sided(seed, *GRID) for seed in range(100, 104)]
    listed = passes(0, *GRID)
    plain = [encode(feature, listed, offsets, alone) for feature in unseen]
    best_static = static_bits(np.concatenate([indices for indices, _, _ in plain]))
    plain_bits = sum(bits for *_, bits in plain)
    own_bits = sum(encode(feature, listed, offsets, weights)[2] for feature in unseen)
    assert plain_bits < 0.85 * best_static
    assert own_bits < 0.93 * plain_bits


def test_without_a_grid_channels_still_predict_channels(samples, offsets):
    rows = [sample[np.random.default_rng(0).permutation(len(sample))] for sample in samples]
    listed = passes(len(rows[0]), 0, 0)
    own, alone = (
        fit_channel_weights(rows, None, offsets, STEP_EXPONENT, PARAMETERS, groups=groups)
        for groups in (4, 1)
    )
    plain, better = (encode(rows[0], listed, offsets, chosen)[2] for chosen in (alone, own))
    assert better < 0.95 * plain


def test_channel_weights_look_only_at_earlier_groups(weights):
    for start, end in pairwise(weights.bounds):
        assert not weights.matrix[:, start:end, start:].any()
    assert weights.matrix[:, weights.bounds[1] :].any(axis=(0, 2)).all()
    assert sorted(weights.order) == list(range(len(weights.order)))


def test_the_largest_products_are_exact():
    channels, start = 1024, 1000
    rng = np.random.default_rng(1)
    largest = 1 << 26
    # In pairs that almost cancel: huge terms, and a sum whose every bit shows.
    sign = np.where(rng.random((3, channels // 2)) < 0.5, -1, 1)
    value = np.repeat(sign * largest, 2, axis=1).astype(np.int64)
    decoded = rng.integers((1 << 20) - 99, 1 << 20, (3, channels), dtype=np.int32)
    half = rng.integers(30000, 32767, (KINDS, channels, channels // 2))
    matrix = np.stack([half, -half], axis=-1).reshape(KINDS, channels, channels).astype(np.int16)
    own = ChannelWeights(
        order=np.arange(channels, dtype=np.int32),
        bounds=(0, start, channels),
        value=np.zeros((KINDS, channels, 4), np.int32),
        matrix=matrix,
        gain=np.full((KINDS, channels), 256, np.int32),
        shape=np.zeros(channels, np.uint8),
    )
    one, zeros = passes(3, 0, 0)[0], np.zeros(value.shape, np.uint8)
    got = refinement(Prediction(value, np.zeros_like(value), zeros), one, decoded, 1, own)[0]
    missed = (decoded[:, :start].astype(object) * UNIT) - value[:, :start].astype(object)
    exact = missed @ matrix[0, start:, :start].T.astype(object)
    exact = value[:, start:].astype(object) + np.vectorize(lambda v: v >> 12)(exact)
    exact = np.clip(exact, -largest, largest).astype(np.int64)
    assert (np.abs(exact) < largest).any()
    np.testing.assert_array_equal(got, exact)


def test_any_prediction_codes_any_index():
    rng = np.random.default_rng(2)
    value = (2.0 ** rng.uniform(0, 26, 4000)).astype(np.int64).reshape(-1, 8) - 3
    error = (2.0 ** rng.uniform(0, 26, 4000)).astype(np.int64).reshape(-1, 8) - 1
    zeros = rng.integers(0, 4, value.shape).astype(np.uint8)
    how = contexts(Prediction(value, error, zeros), np.arange(8, dtype=np.uint8) % 2, PARAMETERS)
    assert {0, 1, 17} <= set(how.low_bits.ravel().tolist())
    assert ((error >> how.low_bits) < RAW_ERROR).all()
    indices = (2.0 ** rng.uniform(0, 30, value.shape)).astype(np.int32) - 1
    indices[:, 4:] = np.maximum(value[:, 4:] // UNIT + rng.integers(-90, 90, value[:, 4:].shape), 0)
    coded = to_symbols(indices, how, TABLES.radii)
    assert len(coded.excess) > 100
    np.testing.assert_array_equal(from_symbols(coded, how, TABLES.radii), indices)


@pytest.mark.parametrize(("symbol", "excess"), [(0, 49), (3, 1 << 40)])
def test_an_escape_out_of_range_is_refused(symbol, excess):
    how = Contexts(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8), np.array([[48]]))
    symbol = symbol and TABLES.radii[0]
    coded = Symbols(np.array([symbol], np.uint8), np.zeros(1, np.int32), np.array([excess]))
    with pytest.raises(BitstreamError, match="out of range"):
        from_symbols(coded, how, TABLES.radii)


def test_values_below_zero_become_zero(offsets, weights):
    feature = np.full((9, 12), -5.0, np.float32)
    indices, *_ = encode(feature, passes(0, 3, 3), offsets, weights)
    assert not indices.any()


def test_the_expected_mean_follows_offset_and_step():
    for offset, step_exponent in ((48, 0), (60, 37), (30, -200), (200, -300)):
        mean = expected(np.array([offset], np.int32), step_exponent, PARAMETERS)[0]
        wanted = UNIT * 2.0 ** ((offset - 48) / 4 - step_exponent / 32)
        assert abs(mean - min(wanted, UNIT << 20)) <= 1 + wanted * 1e-4


def test_a_prediction_ignores_what_is_not_yet_decoded(samples, offsets):
    listed = passes(0, *GRID)
    indices = np.rint(samples[0]).astype(np.int32)
    mean = expected(offsets, 0, PARAMETERS)
    for number, one in enumerate(listed):
        poisoned = indices.copy()
        for later in listed[number:]:
            poisoned[later.tokens] = 77
        for clean, other in zip(
            predict(indices, one, mean, PARAMETERS, PARAMETERS.value),
            predict(poisoned, one, mean, PARAMETERS, PARAMETERS.value),
            strict=True,
        ):
            np.testing.assert_array_equal(clean, other)


def test_the_tables_rebuild_bit_for_bit_from_their_histograms(tmp_path):
    stored = load_file(FILE)
    part = "histograms."
    histograms = Histograms(
        **{name.removeprefix(part): a for name, a in stored.items() if name.startswith(part)}
    )
    save_one_sided(PARAMETERS, histograms, tmp_path / "again.safetensors")
    again = load_file(tmp_path / "again.safetensors")
    assert again.keys() == stored.keys()
    for name, array in stored.items():
        np.testing.assert_array_equal(array, again[name])
    for radius, table in zip(TABLES.radii, TABLES.classes, strict=True):
        assert len(table) == radius + 1
        assert table.sum() == 2**14
        assert table.min() >= 1


def test_damaged_tables_are_refused(tmp_path):
    stored = load_file(FILE)
    save_file(stored | {"tables.radii": stored["tables.radii"] + 1}, tmp_path / "radii")
    with pytest.raises(TableError, match="radii does not follow"):
        load_one_sided(tmp_path / "radii")
    save_file(stored | {"parameters.value": stored["parameters.value"][:2]}, tmp_path / "value")
    with pytest.raises(TableError, match=r"parameters\.value"):
        load_one_sided(tmp_path / "value")
    (tmp_path / "none").write_bytes(b"no")
    with pytest.raises(TableError, match="holds no"):
        load_one_sided(tmp_path / "none")


def test_training_makes_numbers_that_code_its_sources_well(samples, monkeypatch, tmp_path):
    monkeypatch.setattr(training, "SNRS_DB", (8, 15, 22, 38))
    source = training.Source(samples[:4], samples[4:], GRID)
    parameters, histograms = training.train_one_sided([source])
    save_one_sided(parameters, histograms, tmp_path / "own.safetensors")
    own = load_one_sided(tmp_path / "own.safetensors")[1]
    counts = histograms.indices
    bits = -np.log2(np.maximum(counts, 1) / counts.sum(axis=1, keepdims=True))
    ideal = (counts * bits).sum()
    spent = sum(
        float(count[: radius + 1] @ (14 - np.log2(table))) + float(count[radius + 1 :].sum()) * 14
        for count, radius, table in zip(counts, own.radii, own.classes, strict=True)
    )
    assert ideal <= spent * 1.0001
    assert spent < 1.02 * ideal


def test_each_channel_takes_the_shape_and_gain_that_code_it_in_the_fewest_bits(samples, offsets):
    rng = np.random.default_rng(3)
    mixed = []
    for sample in samples[:4]:  # every other channel mostly zero, and else large
        rare = rng.gamma(0.3, 8.0, sample.shape) * (rng.random(sample.shape) < 0.1)
        mixed.append(np.where(np.arange(sample.shape[1]) % 2, rare, sample).astype(np.float32))
    levels = training.channel_offsets(mixed)
    steps = [STEP_EXPONENT - 32, STEP_EXPONENT, STEP_EXPONENT + 32]
    fitted = fit_channel_weights(mixed, GRID, levels, STEP_EXPONENT, PARAMETERS, groups=4)
    chosen = choose_shapes(Samples(mixed, GRID, levels), steps, fitted, PARAMETERS, TABLES)
    assert set(chosen.shape) == {0, 1}
    assert (fitted.gain != chosen.gain).any()

    def cost(weights):
        listed = passes(0, *GRID)
        return sum(encode(mixed[0], listed, levels, weights, step)[2] for step in steps)

    assert cost(chosen) < min(cost(replace(fitted, shape=fitted.shape + one)) for one in (0, 1))


def test_training_divides_channels_by_how_what_is_left_of_them_lies():
    """Two kinds of channels in one cell, of two sources, half of them put with the other kind."""
    dense, sparse = [0, 10, 80, 10], [80, 0, 10, 10]
    seen = []
    for kinds in ([dense, sparse, dense, sparse], [sparse, sparse, dense, dense]):
        channels = np.repeat(np.arange(4), 4)
        cells, symbols = np.full(16, 5), np.tile(np.arange(4), 4)
        seen.append(Seen(channels, cells, symbols, 50 * np.concatenate(kinds)))
    first = [np.array([0.0, 1.0, 0.1, 0.2]), np.array([0.9, 0.8, 0.7, 0.3])]
    one, other = divide_shapes(seen, [1, 1], first)
    assert one.tolist() == [0, 1, 0, 1]
    assert other.tolist() == [1, 1, 0, 0]
