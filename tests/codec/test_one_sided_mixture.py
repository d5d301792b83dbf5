"""Mixtures of frozen tables: what a profile takes where its features fill the classes otherwise."""

import numpy as np
import pytest
from featurewire_codec import one_sided_training as training
from featurewire_codec.one_sided_mixture import best_mixture, mix_tables, own_mixture, symbol_bits
from featurewire_codec.one_sided_tables import load_one_sided
from featurewire_codec.one_sided_universality import code_lengths
from featurewire_codec.one_sided_weights import ChannelWeights

PARAMETERS, TABLES = load_one_sided()


def assert_same(one, other):
    np.testing.assert_array_equal(one.radii, other.radii)
    np.testing.assert_array_equal(one.centroids, other.centroids)
    for first, second in zip(one.classes, other.classes, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_class_that_mixes_nothing_keeps_its_own_table():
    assert_same(mix_tables(TABLES, own_mixture()), TABLES)


def test_mixed_tables_can_code_every_symbol_of_either():
    rng = np.random.default_rng(1)
    mixture = rng.integers(0, [128, 128, 8], (128, 3)).astype(np.uint8)
    mixed = mix_tables(TABLES, mixture)
    for (first, second, share), radius, table in zip(
        mixture, mixed.radii, mixed.classes, strict=True
    ):
        assert radius == max(TABLES.radii[first], TABLES.radii[second])
        assert len(table) == radius + 1
        assert table.sum() == 1 << 14
        assert table.min() >= 1
        for symbol in range(3):  # none of them escapes from any table
            both = (8 - share) * TABLES.classes[first][symbol].astype(float)
            both += share * TABLES.classes[second][symbol].astype(float)
            if table.argmax() != symbol:
                assert abs(table[symbol] - both / 8) <= 1


def test_the_escapes_of_the_smaller_alphabet_are_escapes_of_the_larger():
    small, large = int(TABLES.radii.argmin()), int(TABLES.radii.argmax())
    mixture = own_mixture()
    mixture[7] = small, large, 4
    table = mix_tables(TABLES, mixture).classes[7].astype(int)
    escape = TABLES.classes[small][-1].astype(int) + TABLES.classes[large][-1]
    assert abs(table[-1] - escape / 2) <= 1
    between = TABLES.classes[large][len(TABLES.classes[small]) : -1]
    np.testing.assert_array_equal(
        table[len(TABLES.classes[small]) : -1], np.maximum(between // 2, 1)
    )


@pytest.mark.parametrize("wanted", [(3, 90, 2), (90, 3, 4), (61, 61, 0)])
def test_counts_of_a_mixture_lead_back_to_it(wanted):
    first, second, share = wanted
    chances = 2.0 ** -symbol_bits(TABLES)
    counts = np.zeros((128, 128), np.int64)
    counts[20] = 1e6 * ((8 - share) * chances[first] + share * chances[second]) / 8
    found = best_mixture(counts, TABLES)
    lengths = [symbol_bits(mix_tables(TABLES, m))[20] for m in (own_mixture(), found)]
    ideal = counts[20] @ -np.log2(np.maximum(counts[20], 1) / counts[20].sum())
    assert counts[20] @ lengths[1] < 1.002 * ideal < counts[20] @ lengths[0]
    unseen = np.arange(128) != 20
    np.testing.assert_array_equal(found[unseen], own_mixture()[unseen])


@pytest.mark.parametrize("peakedness", [0.3, 1.5, 8.0])
def test_features_without_a_grid_come_close_to_tables_of_their_own(peakedness, monkeypatch):
    rng = np.random.default_rng(2)
    samples = [rng.gamma(peakedness, 3.0, (256, 16)).astype(np.float32) for _ in range(8)]
    source = training.Source(samples[:4], samples[4:], None)

    def excess():
        others, own, _ = code_lengths(source, PARAMETERS, TABLES)
        return others / own - 1

    mixed = excess()
    monkeypatch.setattr(training, "choose_mixture", lambda *about: about[2])
    assert mixed < 0.02
    assert mixed < 0.4 * excess()


def test_weights_without_a_mixture_have_the_frozen_tables():
    weights = ChannelWeights(
        order=np.zeros(1, np.int32),
        bounds=(0, 1),
        value=np.zeros((7, 1, 4), np.int32),
        matrix=np.zeros((7, 1, 0), np.int16),
        gain=np.ones((7, 1), np.int32),
        shape=np.zeros(1, np.uint8),
    )
    assert_same(weights.tables, TABLES)
