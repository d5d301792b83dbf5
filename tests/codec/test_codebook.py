"""The token codebook: any index decodes, the search finds clusters, the fit learns them."""

import numpy as np
import pytest
from featurewire_codec.codebook import TokenCodebook
from featurewire_codec.codebook_fit import fit_codebook
from featurewire_codec.codebook_search import find, make_lists, plain_find
from featurewire_codec.transform import Geometry

CHANNELS = 24
CENTRES = 3.0 * np.random.default_rng(5).normal(size=(16, CHANNELS))
# Two kinds of clusters, whose residuals spread along different channels.
SHAPES = np.stack([np.geomspace(1.0, 0.01, CHANNELS), np.geomspace(0.01, 1.0, CHANNELS)])


def clustered(tokens: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 16, tokens)
    residual = rng.normal(size=(tokens, CHANNELS)) * SHAPES[cluster % 2]
    return (CENTRES[cluster] + residual).astype(np.float32), cluster


def fit(feature: np.ndarray, codewords: int = 32, groups: int = 2) -> TokenCodebook:
    return fit_codebook(np.array_split(feature, 7), 9.0, codewords, groups)


def forward(book: TokenCodebook, feature: np.ndarray, index: np.ndarray) -> np.ndarray:
    geometry, span = Geometry.of(feature), range(len(feature))
    coefficients = np.full_like(feature, np.nan)
    parts = book.forward(feature, geometry, span, index)
    for panel, part in zip(book.layout(geometry, span, index).panels, parts, strict=True):
        np.testing.assert_array_equal(panel.columns // CHANNELS, book.group[index[panel.rows[0]]])
        coefficients[panel.rows] = part
    return coefficients


def inverse(book: TokenCodebook, coefficients: np.ndarray, index: np.ndarray) -> np.ndarray:
    geometry, span = Geometry.of(coefficients), range(len(coefficients))
    panels = book.layout(geometry, span, index).panels
    return book.inverse([coefficients[panel.rows] for panel in panels], geometry, span, index)


@pytest.fixture(scope="module")
def codebook() -> TokenCodebook:
    return fit(clustered(4000, 0)[0])


def test_every_index_decodes_and_errors_keep_their_size(codebook):
    rng = np.random.default_rng(1)
    feature = 100 * rng.normal(size=(50, CHANNELS)).astype(np.float32)
    index = rng.integers(0, len(codebook.codewords), 50).astype(np.int32)
    coefficients = forward(codebook, feature, index)
    np.testing.assert_allclose(inverse(codebook, coefficients, index), feature, atol=1e-3)
    error = rng.normal(size=coefficients.shape).astype(np.float32)
    change = inverse(codebook, coefficients + error, index) - feature
    np.testing.assert_allclose((change**2).sum(1), (error**2).sum(1), rtol=1e-3)
    assert coefficients.dtype == np.float32
    assert codebook.columns == codebook.matrices.shape[0] * CHANNELS


def test_the_search_finds_the_cluster_of_unseen_tokens(codebook):
    feature, cluster = clustered(1000, 2)
    index = codebook.search(feature)
    assert index.dtype == np.int32
    found = np.zeros((len(codebook.codewords), 16), np.int64)
    np.add.at(found, (index, cluster), 1)
    assert found.max(axis=1).sum() > 990
    residual = forward(codebook, feature, index)
    assert np.mean(residual**2) < 0.1 * np.mean((feature - codebook.mean) ** 2)


def test_a_rare_codeword_must_be_nearer_than_a_frequent_one():
    counts = np.array([1000, 1], np.int64)
    book = TokenCodebook(
        mean=np.zeros(2, np.float32),
        matrices=np.eye(2, dtype=np.float32)[None],
        spreads=np.ones((1, 2), np.float32),
        codewords=np.array([[0, 0], [100, 0]], np.int8),
        scales=np.full((1, 2), 0.1, np.float32),
        group=np.zeros(2, np.uint8),
        counts=counts,
    )
    places = np.array([[4.0, 0.0], [5.2, 0.0], [6.5, 0.0]], np.float32)
    np.testing.assert_array_equal(book.search(places), [0, 0, 1])


def test_tokens_are_searched_in_blocks_to_the_same_end(codebook, monkeypatch):
    feature, _ = clustered(300, 3)
    whole = codebook.search(feature)
    monkeypatch.setattr("featurewire_codec.codebook._BLOCK_TOKENS", 7)
    np.testing.assert_array_equal(codebook.search(feature), whole)


def test_bases_are_orthonormal_and_their_columns_fall_in_variance(codebook):
    feature, _ = clustered(4000, 0)
    index = codebook.search(feature)
    residual = forward(codebook, feature, index)
    for number, matrix in enumerate(codebook.matrices):
        np.testing.assert_allclose(matrix.T @ matrix, np.eye(CHANNELS), atol=1e-5)
        variance = residual[codebook.group[index] == number].var(axis=0)
        assert variance[:8].min() > 2 * variance[-8:].max()
        assert (np.diff(codebook.spreads[number]) <= 0).all()


def test_clusters_of_two_shapes_get_two_bases():
    feature, _ = clustered(4000, 0)
    one, two = fit(feature, groups=1), fit(feature, groups=2)
    assert len(two.matrices) == 2
    test, cluster = clustered(2000, 4)

    def log_variance(book: TokenCodebook) -> float:
        index = book.search(test)
        residual = forward(book, test, index)
        group = book.group[index]
        means = [
            np.mean(group == g) * np.log2(residual[group == g].var(axis=0)).mean()
            for g in np.unique(group)
        ]
        return sum(means) / 2

    assert log_variance(two) < log_variance(one) - 0.8
    kinds = two.group[two.search(test)] == cluster % 2
    assert kinds.mean() in (pytest.approx(0, abs=0.02), pytest.approx(1, abs=0.02))


def test_the_same_samples_give_the_same_codebook(codebook):
    again = fit(clustered(4000, 0)[0])
    for name in ("mean", "matrices", "spreads", "codewords", "scales", "group", "counts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(codebook, name))


def test_counts_are_the_tokens_that_chose_each_codeword(codebook):
    assert codebook.counts.sum() == 4000
    assert codebook.counts.min() > 0
    assert (np.diff(codebook.counts) <= 0).all()


def test_few_tokens_give_few_codewords_and_one_is_enough():
    feature, _ = clustered(40, 6)
    assert 1 <= len(fit(feature, codewords=1000, groups=8).codewords) <= 10
    single = fit(feature[:1])
    index = single.search(feature)
    restored = inverse(single, forward(single, feature, index), index)
    np.testing.assert_allclose(restored, feature, atol=1e-3)


def test_giants_set_no_scale_and_a_first_token_gets_its_codeword():
    feature, _ = clustered(4000, 0)
    plain = fit(feature, codewords=40)
    first = np.arange(0, 4000, 100)
    feature[first] = CENTRES[0]
    feature[first, 7] = 2000.0
    feature[first + 5, 7] = -700.0  # now and then, in tokens of any cluster
    book = fit(feature, codewords=40)
    index = book.search(feature)
    giant = np.unique(index[first])
    assert len(giant) == 1
    usual = np.ones(4000, bool)
    usual[first] = usual[first + 5] = False
    assert (index[usual] != giant).all()
    residual = forward(book, feature, index)
    assert np.abs(residual[first]).max() < 2000.0
    assert np.mean(residual[usual] ** 2) < 1.1 * np.mean(forward(plain, feature, index)[usual] ** 2)
    np.testing.assert_allclose(np.median(book.spreads), np.median(plain.spreads), rtol=0.3)
    assert book.spreads.max() < 20


def test_both_searches_find_what_comparing_with_every_codeword_finds():
    rng = np.random.default_rng(8)
    kinds = 3 * rng.normal(size=(25, 12))
    words = (kinds[rng.integers(0, 25, 1000)] + rng.normal(size=(1000, 12))).astype(np.float32)
    bits = rng.uniform(4, 16, 1000).astype(np.float32)
    places = words[rng.integers(0, 1000, 400)] + 0.3 * rng.normal(size=(400, 12))
    places = places.astype(np.float32)
    distance = ((places[:, None] - words) ** 2).sum(axis=2)
    best = (distance / (2 * np.log(2)) + bits).argmin(axis=1)
    lists = make_lists(words, bits)
    assert len(lists.heads) > 4
    plain = plain_find(places, lists)
    assert np.mean(plain == best) > 0.95
    np.testing.assert_array_equal(find(places, lists), plain)
