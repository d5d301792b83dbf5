"""Trellis-coded quantisation: the path, the coding order, both backends, what it saves."""

import sys

import numpy as np
import pytest
from featurewire_codec import (
    BitstreamError,
    FeatureCodec,
    FeatureError,
    Profile,
    ProfileError,
    inspect,
)
from featurewire_codec import entropy_coder as plain_coder
from featurewire_codec import trellis as plain_trellis
from featurewire_codec.backend import VARIABLE, load_backend
from featurewire_codec.cli import main
from featurewire_codec.coefficients import class_models
from featurewire_codec.entropy_model import Ladder
from featurewire_codec.kernels import ans as fast_coder
from featurewire_codec.kernels import trellis as fast_trellis
from featurewire_codec.span import rounding_for
from featurewire_codec.tables import class_radii, load_tables
from featurewire_codec.training import Source, count_source, prepare
from featurewire_codec.trellis import NEXT_STATE, PREVIOUS_STATE, TrellisSymbols, to_indices
from synthetic_features import make_grid, make_tokens

RADII = class_radii()
STEP = 0.25


def make_panel(seed, rows, columns, lowest=36, highest=52, exponents=True, sorted_columns=False):
    """Return coefficients with giants, their ladder, and the rows' shifts."""
    rng = np.random.default_rng(seed)
    offsets = rng.integers(lowest, highest + 1, columns).astype(np.int32)
    offsets = np.sort(offsets) if sorted_columns else offsets
    shifts = (rng.integers(-3, 4, rows) * exponents).astype(np.int32)
    scale = 2.0 ** ((offsets[None, :] + shifts[:, None] - 48) / 4)
    values = rng.laplace(size=(rows, columns)) * scale
    values[0, 0], values[-1, -1] = -3e4, 700.0
    return (values * STEP).astype(np.float32), Ladder.of(offsets), shifts


def one(*panel):
    return [panel]


CASES = {
    "a token": [make_panel(1, 1, 40)],
    "few rows": [make_panel(2, 3, 70)],
    "more rows than side by side": [make_panel(3, 21, 50, sorted_columns=True)],
    "raw groups at the end of each path": [make_panel(4, 9, 60, 50, 90)],
    "raw groups alone": [make_panel(5, 3, 20, 90, 150)],
    "several panels": [make_panel(6, 5, 30), make_panel(7, 1, 17, 30, 80), make_panel(8, 12, 9)],
}


def quantised(panels, loops=fast_trellis):
    return loops.quantise(panels, 1 / STEP, rounding_for("trellis"), RADII)


def shapes(panels):
    return [(ladder, shifts) for _, ladder, shifts in panels]


@pytest.mark.parametrize("panels", CASES.values(), ids=CASES.keys())
def test_the_compiled_search_finds_the_same_paths(panels):
    fast, plain = quantised(panels), quantised(panels, plain_trellis)
    for name in ("symbols", "tables", "low", "widths", "excess"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(plain, name), name)
    np.testing.assert_array_equal(fast_trellis.raw_widths(shapes(panels)), fast.widths)
    centroids = load_tables().trellis_centroids
    rebuilt = [
        loops.dequantise(fast, shapes(panels), STEP, RADII, centroids)
        for loops in (fast_trellis, plain_trellis)
    ]
    for ours, theirs in zip(*rebuilt, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("panels", CASES.values(), ids=CASES.keys())
def test_both_coders_write_the_same_words_and_read_them_back(panels, lanes):
    coded, tables = quantised(panels), class_models().trellis
    words = []
    for coder in (fast_coder, plain_coder):
        encoder = coder.Encoder(lanes, 4711, tables)
        encoder.push_each(coded.symbols, coded.tables)
        words.append(encoder.words())
    for ours, theirs in zip(*words, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for coder, loops in ((fast_coder, fast_trellis), (plain_coder, plain_trellis)):
        decoder = coder.Decoder(words[0], 4711, tables)
        symbols, numbers = loops.pop(decoder, shapes(panels), RADII)
        decoder.finish()
        np.testing.assert_array_equal(symbols, coded.symbols)
        np.testing.assert_array_equal(numbers, coded.tables)
        assert loops.count_escapes(symbols, numbers, RADII) == len(coded.excess)


@pytest.mark.parametrize("panels", CASES.values(), ids=CASES.keys())
def test_every_value_is_rebuilt_within_a_step_and_a_half_and_most_within_half(panels):
    coded = quantised(panels)
    none = np.zeros_like(load_tables().trellis_centroids)
    rebuilt = fast_trellis.dequantise(coded, shapes(panels), STEP, RADII, none)
    error = np.concatenate(
        [(np.abs(r - v) / STEP).ravel() for r, (v, _, _) in zip(rebuilt, panels, strict=True)]
    )
    assert error.max() <= 1.5
    assert np.mean(error <= 0.5) > 0.8


def test_the_quantiser_of_each_coefficient_follows_from_the_parities_before_it():
    values, ladder, shifts = make_panel(9, 4, 80, 40, 70)
    coded = quantised(one(values, ladder, shifts))
    tables = coded.tables.reshape(80, 4)
    magnitude = np.abs(coded.symbols.astype(int).reshape(80, 4) - RADII[tables >> 1])
    groups = ladder.groups(shifts)
    for row in range(4):
        state = 0
        for column in range(80):
            inside = groups[row, column] < 64
            assert tables[column, row] & 1 == (state & 1 if inside else 0)
            if inside:
                state = NEXT_STATE[state, magnitude[column, row] & 1]
    assert (tables & 1).any()


def test_the_machine_runs_backwards():
    for parity in (0, 1):
        after = NEXT_STATE[:, parity]
        np.testing.assert_array_equal(PREVIOUS_STATE[after, parity], np.arange(8))


def test_no_path_of_a_short_row_is_cheaper():
    """The search against all paths: costs by the very numbers that it weighs."""
    values, ladder, shifts = make_panel(10, 1, 5, 46, 50, exponents=False, sorted_columns=True)
    values = np.clip(values, -2, 2)
    costs = rounding_for("trellis").costs[ladder.groups(shifts)[0]].astype(np.float64)
    size = np.abs(values[0]).astype(np.float64) / STEP

    def branch(column, state, magnitude):
        bits, place = costs[column, state & 1, :5], costs[column, state & 1, 5:]
        if magnitude == 0:
            return size[column] ** 2 + bits[0]
        rebuilt = magnitude + place[min(magnitude, 3) - 1]
        rate = bits[min(magnitude, 3)] + bits[4] * max(magnitude - 3, 0)
        return (size[column] - rebuilt) ** 2 + rate

    def best(column, state):
        if column == len(size):
            return 0.0
        near = range(max(0, int(size[column]) - 2), int(size[column]) + 4)
        return min(
            branch(column, state, m) + best(column + 1, NEXT_STATE[state, m & 1])
            for m in {0, *near}
        )

    coded = quantised(one(values, ladder, shifts))
    state, found = 0, 0.0
    for column, index in enumerate(to_indices(coded, RADII)):
        found += branch(column, state, abs(int(index)))
        state = NEXT_STATE[state, abs(int(index)) & 1]
    assert found == pytest.approx(best(0, 0), rel=1e-4)


@pytest.mark.parametrize("grid", [None, (16, 16)])
def test_bytes_do_not_depend_on_the_backend(monkeypatch, token_profile, grid_profile, grid):
    profile = grid_profile if grid else token_profile
    feature = make_grid(60, 16, 16, prefix=1) if grid else make_tokens(60, 37)
    coded, rebuilt = [], []
    try:
        for kernels in ("on", "off"):
            monkeypatch.setenv(VARIABLE, kernels)
            load_backend.cache_clear()
            codec = FeatureCodec(profile)
            coded.append(codec.encode(feature, 15, grid, effort="trellis"))
            rebuilt.append(codec.decode(coded[0]).numpy())
    finally:
        monkeypatch.undo()
        load_backend.cache_clear()
    assert coded[0] == coded[1]
    np.testing.assert_array_equal(*rebuilt)


@pytest.mark.parametrize("snr_db", [5.0, 15.0, 25.0, 40.0])
def test_a_profile_reaches_the_asked_snr_by_trellis(token_profile, snr_db):
    codec = FeatureCodec(token_profile)
    features = [make_tokens(seed, 150) for seed in range(100, 110)]
    error = [
        np.mean((codec.decode(codec.encode(f, snr_db, effort="trellis")).numpy() - f) ** 2)
        for f in features
    ]
    reached = 10 * np.log10(token_profile.energy / np.mean(error))
    assert reached == pytest.approx(snr_db, abs=0.3)


@pytest.mark.parametrize("snr_db", [0.0, 15.0, 60.0])
def test_a_self_describing_stream_reaches_the_asked_snr_by_trellis(snr_db):
    feature = make_tokens(7, 200)
    data = FeatureCodec().encode(feature, snr_db, effort="trellis")
    header = inspect(data).header
    error = np.mean((FeatureCodec().decode(data).numpy() - feature) ** 2, dtype=np.float64)
    assert header.trellis
    assert 10 * np.log10(header.energy / error) == pytest.approx(snr_db, abs=0.3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 32), (40, 1), (7, 32), (3, 5000)])
def test_any_shape_round_trips_by_trellis(shape):
    feature = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    decoded = FeatureCodec().decode(FeatureCodec().encode(feature, 40, effort="trellis"))
    assert decoded.shape == shape
    assert np.abs(decoded.numpy() - feature).max() < 0.2


@pytest.mark.parametrize("framing", ["file", "session"])
def test_the_trellis_saves_bits_at_no_more_error(grid_profile, framing):
    codec, grid = FeatureCodec(grid_profile, framing), (48, 48)
    shape = (48 * 48 + 1, 6) if framing == "session" else None
    features = [make_grid(seed, *grid, prefix=1) for seed in range(200, 204)]

    def total(snr_db, effort):
        size = error = 0.0
        for feature in features:
            data = codec.encode(feature, snr_db, grid, effort=effort)
            values = codec.decode(data, shape=shape, grid=grid if shape else None)
            size += len(data)
            error += float(np.mean((values.numpy() - feature) ** 2, dtype=np.float64))
        return size, error

    fast = total(15.0, "fast")
    trellis = next(
        found for s in np.arange(14.5, 17, 0.1) if (found := total(s, "trellis"))[1] <= fast[1]
    )
    assert trellis[0] < 0.97 * fast[0]


@pytest.mark.parametrize("place", [0.1, 0.4, 0.7, 0.95])
def test_a_damaged_path_is_found(token_profile, place):
    feature, shape = make_tokens(61, 60), (60, 32)
    codec = FeatureCodec(token_profile, "session")  # no CRC: the entropy coder's check finds it
    data = bytearray(codec.encode(feature, 15, effort="trellis"))
    data[2 + int(place * (len(data) - 2))] ^= 16
    with pytest.raises(BitstreamError):
        codec.decode(bytes(data), shape=shape)


def test_a_cut_or_lengthened_path_is_found():
    codec = FeatureCodec()
    data = codec.encode(make_tokens(62, 30), 15, effort="trellis")
    for damaged in (data[:-9], data + b"\1"):
        with pytest.raises(BitstreamError):
            codec.decode(damaged)


def test_efforts_that_cannot_be_made_are_refused(token_profile):
    feature = make_tokens(63, 20)
    with pytest.raises(FeatureError, match="fast or trellis"):
        FeatureCodec().encode(feature, effort="hard")
    with pytest.raises(FeatureError, match="bounds no error"):
        FeatureCodec().encode(feature, effort="trellis", max_error=0.1)
    old = Profile(
        token_profile.transform,
        token_profile.energy,
        token_profile.offsets,
        token_profile.step_exponents,
        token_profile.snr_db,
        {},
    )
    with pytest.raises(ProfileError, match="without the effort"):
        FeatureCodec(old).encode(feature, effort="trellis")


def test_a_size_is_met_by_trellis(token_profile):
    feature = make_tokens(64, 300)
    data = FeatureCodec(token_profile).encode(feature, effort="trellis", target_bits=16000)
    assert 0.98 * 16000 <= 8 * len(data) <= 16000
    assert inspect(data).header.trellis


def test_the_rate_control_of_the_trellis_is_kept_on_disk(token_profile, tmp_path):
    token_profile.save_pretrained(tmp_path)
    again = Profile.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again.trellis_snr_db, token_profile.trellis_snr_db)
    assert again.step_exponent(15.0, "trellis") > again.step_exponent(15.0, "fast")


def test_the_tables_of_the_trellis_are_symmetric_and_sum_to_two_to_the_14():
    tables = load_tables()
    assert len(tables.trellis) == 128
    for number, table in enumerate(tables.trellis):
        assert len(table) == 2 * tables.radii[number >> 1] + 1
        assert table.sum() == 2**14
        assert table.min() >= 1
        np.testing.assert_array_equal(table, table[::-1])
    assert not tables.trellis_centroids[..., 0].any()


def test_the_search_weighs_errors_by_what_the_decoder_rebuilds():
    """One coefficient a class and quantiser: its value at magnitudes 1 to 3 is the costs' own."""
    costs, centroids = rounding_for("trellis").costs, load_tables().trellis_centroids
    ladder, shifts = Ladder.of(np.arange(64, dtype=np.int32)), np.zeros(1, np.int32)
    for quantiser in (0, 1):
        tables = (2 * np.arange(64) + quantiser).astype(np.uint8)
        for magnitude in (1, 2):
            symbols = (RADII + magnitude).astype(np.uint8)
            coded = TrellisSymbols(
                symbols, tables, np.zeros(0, np.int32), symbols[:0], np.zeros(0, np.int64)
            )
            for loops in (fast_trellis, plain_trellis):
                (values,) = loops.dequantise(coded, [(ladder, shifts)], 1.0, RADII, centroids)
                expected = magnitude + costs[:, quantiser, 4 + magnitude]
                np.testing.assert_allclose(values[0], expected, atol=1e-6)


def test_training_counts_the_paths():
    source = prepare(Source("text", [make_tokens(seed, 64) for seed in range(4)], None))
    histograms = count_source(source, None)
    counted = histograms.trellis_magnitudes
    assert 0.5 * histograms.magnitudes.sum() < counted.sum() <= histograms.magnitudes.sum()
    assert counted[:, 1].sum() > 0.2 * counted.sum()
    assert count_source(source, load_tables()).trellis_offsets.any()


def test_the_commands_take_an_effort(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    np.save("one.npy", make_tokens(65, 200))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["featurewire-codec", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code, capsys.readouterr()

    sizes = []
    for effort in ("fast", "trellis"):
        quality = "--snr-db", "15", "--effort", effort
        assert run("encode", "one.npy", "--out", "x.fw", *quality)[0] == 0
        sizes.append(len((tmp_path / "x.fw").read_bytes()))
        assert run("evaluate", "one.npy", *quality)[0] == 0
    assert sizes[1] < 0.97 * sizes[0]
    code, captured = run("encode", "one.npy", "--out", "y.fw", "--effort", "hard")
    assert (code, "not fast or trellis" in captured.err) == (2, True)
