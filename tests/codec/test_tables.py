"""The frozen tables and the training that makes their histograms."""

from dataclasses import fields, replace

import numpy as np
import pytest
from featurewire_codec import TableError
from featurewire_codec.tables import (
    FILE,
    Histograms,
    build_tables,
    class_radii,
    load_tables,
    save_tables,
    total,
)
from featurewire_codec.training import Source, count_source, prepare, train_tables
from safetensors.numpy import load_file
from synthetic_features import make_grid, make_tokens


def shipped_histograms() -> Histograms:
    stored = load_file(FILE)
    return Histograms(
        **{k.removeprefix("histograms."): v for k, v in stored.items() if k.startswith("hist")}
    )


def test_every_table_is_positive_symmetric_and_sums_to_two_to_the_14():
    tables = load_tables()
    for radius, table in zip(tables.radii, tables.classes, strict=True):
        assert len(table) == 2 * radius + 1
        assert table.sum() == 2**14
        assert table.min() >= 1
        np.testing.assert_array_equal(table, table[::-1])
    for side in (tables.row_exponents, tables.column_exponents, tables.escape_lengths):
        assert side.sum() == 2**14
        assert side.min() >= 1


def test_the_tables_rebuild_bit_for_bit_from_their_histograms(tmp_path):
    save_tables(shipped_histograms(), tmp_path / "again.safetensors")
    again, shipped = load_file(tmp_path / "again.safetensors"), load_file(FILE)
    assert again.keys() == shipped.keys()
    for name, array in shipped.items():
        np.testing.assert_array_equal(array, again[name])


def test_tables_that_do_not_follow_from_their_histograms_are_refused(tmp_path):
    from safetensors.numpy import save_file

    stored = load_file(FILE)
    stored["tables.centroids"][50, 1] += 1
    save_file(stored, tmp_path / "t.safetensors")
    with pytest.raises(TableError, match="centroids does not follow"):
        load_tables(tmp_path / "t.safetensors")
    (tmp_path / "n.safetensors").write_bytes(b"no")
    with pytest.raises(TableError, match="holds no"):
        load_tables(tmp_path / "n.safetensors")


def test_a_class_seen_too_seldom_borrows_from_the_class_above():
    histograms = shipped_histograms()
    magnitudes = histograms.magnitudes.copy()
    magnitudes[20] = 0
    tables = build_tables(replace(histograms, magnitudes=magnitudes))
    np.testing.assert_array_equal(tables.classes[20], tables.classes[21])
    with pytest.raises(TableError, match="empty"):
        build_tables(Histograms.zeros())


def test_training_counts_every_coefficient_of_the_held_back_half():
    tokens = [make_tokens(seed, 64) for seed in range(8)]
    text = count_source(prepare(Source("text", tokens, None)), None)
    once = int(text.magnitudes.sum())
    assert once % (4 * 64 * 32) == 0
    assert once > 0
    grids = [make_grid(s, 8, 8) for s in range(8)]
    grid = count_source(prepare(Source("grid", grids, (8, 8))), None)
    both = total([text, grid])
    assert both.magnitudes.sum() == once + grid.magnitudes.sum()
    assert both.row_exponents.sum() > 0


def test_training_again_gives_the_same_tables():
    sources = [
        Source("text", [make_tokens(seed, 128) for seed in range(8)], None),
        Source("grid", [make_grid(seed, 8, 8) for seed in range(8)], (8, 8)),
    ]
    one, other = (total(train_tables([prepare(each) for each in sources])) for _ in range(2))
    for each in fields(Histograms):
        np.testing.assert_array_equal(getattr(one, each.name), getattr(other, each.name))


def test_class_radii_are_ten_mean_magnitudes_and_three():
    means = 2.0 ** ((np.arange(64) - 48) / 4)
    wanted = np.minimum(np.ceil(10 * means - 1e-9) + 3, 127)
    np.testing.assert_array_equal(class_radii(), wanted)
