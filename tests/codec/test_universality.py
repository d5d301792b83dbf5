"""Code lengths with the others' tables and with a source's own, against what an encoder spends."""

from dataclasses import replace

import numpy as np
import pytest
from featurewire_codec import one_sided_training as training
from featurewire_codec import one_sided_universality, universality
from featurewire_codec.bitstream import Header
from featurewire_codec.coefficients import NO_SIDE, encode_symbols
from featurewire_codec.one_sided import passes
from featurewire_codec.one_sided_chunk import Walk, quantise_walk
from featurewire_codec.one_sided_tables import load_one_sided
from featurewire_codec.one_sided_universality import code_lengths
from featurewire_codec.tables import CLASSES, load_tables
from featurewire_codec.training import Source, prepare, quantise_source
from featurewire_codec.universality import Counts, entropy, frozen_bits, leave_one_out, own_bits
from synthetic_features import make_one_sided, make_tokens
from test_tables import shipped_histograms

TABLES = load_tables()
STATE_BITS = 64  # what is left in a lane at its end


def spent(symbols, side, header):
    """Return the bits of a chunk's words and raw bits, and how many lanes it has."""
    tokens = range(header.tokens)
    chunk, _ = encode_symbols(tokens, symbols, side, None, header, b"", 0)
    return np.array([32 * sum(map(len, chunk.words)) + 8 * len(chunk.fields.raw), len(chunk.words)])


@pytest.mark.parametrize("snr_db", [5.0, 35.0])
@pytest.mark.parametrize("trellis", [False, True])
def test_frozen_code_lengths_are_what_an_encoder_spends(snr_db, trellis):
    rng = np.random.default_rng(1)
    tokens = [make_tokens(seed, 512) * rng.gamma(0.5, size=(512, 1)) for seed in range(4)]
    tokens = [each.astype(np.float32) for each in tokens]
    tokens[3][::50, 1] *= 30  # for escapes
    source = prepare(Source("text", tokens, None))
    channels = tokens[0].shape[1]
    header = Header(512, channels, 0, None, None, 1.0, trellis=trellis)
    counts, sums, features = Counts(2 * CLASSES if trellis else CLASSES), np.zeros(2), 0
    for coded in quantise_source(source, TABLES, snr_db):
        effort = coded.trellis if trellis else coded.fast
        counts.add(effort)
        sums += spent(effort.symbols, effort.side, header)
        features += 512 * channels
    assert counts.escape_lengths.sum() > 0
    assert counts.row_exponents.sum() > 0
    assert counts.raw_bits > 0
    assert counts.magnitudes.sum() == features
    classes = TABLES.trellis if trellis else TABLES.classes
    bits, lanes = sums
    assert 0 < bits - frozen_bits(counts, classes, TABLES) * features < STATE_BITS * lanes


def test_an_escape_costs_its_length_and_the_bits_below_its_highest():
    counts = Counts(CLASSES)
    counts.magnitudes[3, 0] = 1
    before = frozen_bits(counts, TABLES.classes, TABLES)
    counts.escape_lengths[2] = 5
    cost = frozen_bits(counts, TABLES.classes, TABLES) - before
    assert cost == pytest.approx(5 * (2 + 14 - np.log2(TABLES.escape_lengths[2])))


def test_own_code_lengths_are_entropies_with_signs_and_raw_bits():
    counts = Counts(CLASSES)
    counts.magnitudes[3, :2] = 4, 4  # 8 bits and 4 signs
    counts.magnitudes[9, 2] = 8  # 8 signs
    counts.escape_lengths[2] = 5  # 2 bits below the highest of each
    counts.raw_bits = 6
    counts.row_exponents[40] = 100  # which own tables go without
    assert own_bits(counts) == (8 + 4 + 8 + 10 + 6) / 16
    assert entropy(np.array([2, 1, 1])) == 6.0
    assert entropy(np.zeros(3, np.int64)) == 0.0


def test_one_sided_code_lengths_are_what_an_encoder_spends(monkeypatch):
    monkeypatch.setattr(training, "SNRS_DB", (8, 26))
    parameters, tables = load_one_sided()
    samples = [make_one_sided(seed, 20, 16) for seed in range(6)]
    samples[5][::40] *= 20
    source = training.Source(samples[:5], samples[5:], (20, 16))
    others, own, learned = code_lengths(source, parameters, tables)
    header, sums = Header(320, 12, 0, None, None, 1.0), np.zeros(2)
    weights = training.calibrated_weights(source, parameters, tables)
    for snr_db in training.SNRS_DB:
        exponent = source.step_exponent(snr_db)
        walked = Walk(passes(0, 20, 16), source.offsets, exponent, weights)
        coded, _ = quantise_walk(samples[5], walked, training.class_thresholds(tables))
        sums += spent(coded, NO_SIDE, header)
    bits, lanes = sums
    assert 0 < bits - others * 2 * 320 * 12 < STATE_BITS * lanes
    assert 0.8 * others < own < learned < 1.1 * others


def test_each_source_is_measured_with_tables_of_the_other_models(monkeypatch):
    monkeypatch.setattr(universality, "used_snrs_db", lambda: [15.0])
    tokens = [make_tokens(seed, 64) for seed in range(4)]
    sources = [prepare(Source(name, tokens, None)) for name in ("a.1.npy", "a.2.npy", "b.npy")]
    good = shipped_histograms()
    level = replace(good, magnitudes=good.magnitudes * 0 + 99999,
                    trellis_magnitudes=good.trellis_magnitudes * 0 + 99999)  # fmt: skip
    first, second, last = leave_one_out(sources, [level, level, good], TABLES)
    fast, trellis = Counts(CLASSES), Counts(2 * CLASSES)
    for coded in quantise_source(sources[0], TABLES, 15.0):
        fast.add(coded.fast)
        trellis.add(coded.trellis)
    assert first[1:] == second[1:]
    assert first.others == frozen_bits(fast, TABLES.classes, TABLES)
    assert first.trellis_others == frozen_bits(trellis, TABLES.trellis, TABLES)
    assert (last.own, last.trellis_own) == (first.own, first.trellis_own)
    assert last.others > 1.2 * last.own
    assert last.trellis_others > 1.2 * last.trellis_own


def test_one_sided_numbers_are_trained_on_the_other_models(monkeypatch):
    monkeypatch.setattr(
        one_sided_universality, "train_one_sided", lambda others, _: (others, others)
    )
    monkeypatch.setattr(one_sided_universality, "build_tables", sum)
    monkeypatch.setattr(one_sided_universality, "code_lengths", lambda *known: (*known[1:], 7))
    rows = one_sided_universality.leave_one_out([("a.1.npy", 1), ("a.2.npy", 2), ("b.npy", 4)])
    assert [row[1:3] for row in rows] == [([4], 4), ([4], 4), ([1, 2], 3)]
    assert [row.learned for row in rows] == [7, 7, 7]
    rows = one_sided_universality.leave_one_out([(f"m{one}.npy", one) for one in range(7)])
    assert [row.own for row in rows] == [21 - 5, 21 - 7, 19, 18, 17, 21 - 5, 21 - 7]
