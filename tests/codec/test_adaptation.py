"""Adaptive codewords: integers alone decide, near tokens move a codeword, far ones become one."""

from fractions import Fraction

import numpy as np
import pytest
from featurewire_codec import ProfileError, SessionCodec
from featurewire_codec.adaptation import AdaptiveCodebook, fixed_point, unit_exponent
from featurewire_codec.codebook import TokenCodebook

CHANNELS = 6


def start() -> TokenCodebook:
    rng = np.random.default_rng(0)
    bases = [np.linalg.qr(rng.normal(size=(CHANNELS, CHANNELS)))[0] for _ in range(2)]
    return TokenCodebook(
        mean=rng.normal(size=CHANNELS).astype(np.float32),
        matrices=np.stack(bases).astype(np.float32),
        spreads=np.full((2, CHANNELS), 0.5, np.float32),
        codewords=rng.integers(-127, 128, (8, CHANNELS)).astype(np.int8),
        scales=np.full((2, CHANNELS), 0.1, np.float32),
        group=(np.arange(8) % 2).astype(np.uint8),
        counts=np.arange(80, 0, -10),
    )


def coefficients(book: AdaptiveCodebook, feature: np.ndarray, index: np.ndarray) -> np.ndarray:
    return book.start.rotate(feature - book.mean, book.group[index]) - book.codeword(index)


def decoded(book: AdaptiveCodebook, feature: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Quantise finely, as a session would, to the residual that both sides know."""
    indices = np.rint(coefficients(book, feature, index) / 2.0**-6).astype(np.int32)
    return fixed_point(256 * indices.astype(np.int64), -6 * 32, unit_exponent(book.start))


@pytest.mark.parametrize("step_exponent", [-2000, -70, -33, -1, 0, 5, 31, 32, 200, 2000])
@pytest.mark.parametrize("unit", [-40, -11, 0, 9])
def test_fixed_point_is_the_value_to_fifteen_bits(step_exponent, unit):
    indices = np.array([[-90000, -3, -1, 0, 1, 2, 1 << 20]], np.int32)
    centroids = np.array([[-5, -20, 60, 99, 60, -20, 0]], np.int8)
    units = np.sign(indices).astype(np.int64) * (256 * np.abs(indices.astype(np.int64)) + centroids)
    values = fixed_point(units, step_exponent, unit)
    assert values.dtype == np.int64
    for value, index, centroid in zip(values[0], indices[0], centroids[0], strict=True):
        size = Fraction(256 * abs(int(index)) + (int(centroid) if index else 0), 256)
        octaves, part = divmod(step_exponent, 32)
        exact = size * Fraction(2) ** (octaves - unit) * Fraction(2 ** (part / 32))
        near = Fraction(1, 2) + exact / 2**14
        assert abs(min(exact, 1 << 28) - abs(int(value))) <= near
        assert np.sign(value) in (0, np.sign(index))


def test_until_the_first_chunk_it_codes_as_the_profile_does():
    book, plain = AdaptiveCodebook(start()), start()
    rng = np.random.default_rng(1)
    index = rng.integers(0, 8, 100).astype(np.int32)
    np.testing.assert_allclose(book.codeword(index), plain.codeword(index), atol=1e-3)
    feature = (3 * rng.normal(size=(100, CHANNELS))).astype(np.float32)
    np.testing.assert_array_equal(book.search(feature), plain.search(feature))


def test_a_codeword_moves_to_where_its_tokens_are():
    book = AdaptiveCodebook(start(), far=1e6)
    index = np.full(50, 7, np.int32)
    target = book.codeword(index[:1]) + 0.4
    feature = book.start.rotate(np.repeat(target, 50, axis=0), book.group[index], back=True)
    feature += book.mean
    for _ in range(6):
        book.update(index, decoded(book, feature, index))
    np.testing.assert_allclose(book.codeword(index[:1]), target, atol=0.02)
    np.testing.assert_array_equal(book.codeword(index[:1] - 1), start_word(6))
    assert book.counts[7] > start().counts[7]


def start_word(number: int) -> np.ndarray:
    return AdaptiveCodebook(start()).codeword(np.array([number], np.int32))


def test_far_tokens_become_codewords_that_the_search_then_finds():
    book = AdaptiveCodebook(start())
    feature = 40 + 20 * np.random.default_rng(2).normal(size=(5, CHANNELS)).astype(np.float32)
    before = book.search(feature)
    book.update(before, decoded(book, feature, before))
    after = book.search(feature)
    np.testing.assert_array_equal(np.sort(after), np.arange(8, 13))
    assert np.abs(coefficients(book, feature, after)).max() < 0.02
    assert len(book.counts) == 13


def test_the_oldest_of_a_full_session_is_overwritten():
    book = AdaptiveCodebook(start(), capacity=3)
    rng = np.random.default_rng(3)
    for round_ in range(4):
        feature = (100 * (round_ + 1) + 50 * rng.normal(size=(1, CHANNELS))).astype(np.float32)
        index = np.zeros(1, np.int32)
        book.update(index, decoded(book, feature, index))
    assert len(book.counts) == 11
    assert book.search(feature)[0] == 8
    np.testing.assert_array_equal(
        book.codeword(np.arange(8)), AdaptiveCodebook(start()).codeword(np.arange(8))
    )


def test_two_sides_with_other_floats_keep_one_state_and_reset_forgets_it():
    ours, theirs = AdaptiveCodebook(start(), 4), AdaptiveCodebook(start(), 4)
    rng = np.random.default_rng(4)
    for _ in range(30):
        index = rng.integers(0, len(ours.counts), 16).astype(np.int32)
        residual = rng.integers(-5000, 5000, (16, CHANNELS))
        ours.update(index, residual)
        theirs.update(index, residual)
        theirs._places += 1e-3  # what only the search reads may differ
    for name in ("_words", "_counts", "_age", "group"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    ours.reset()
    np.testing.assert_array_equal(ours._words, AdaptiveCodebook(start(), 4)._words)
    assert len(ours.counts) == 8


def test_counts_stay_bounded_and_never_reach_zero():
    book = AdaptiveCodebook(start(), 0)
    index = np.zeros(4096, np.int32)
    for _ in range(3):
        book.update(index, np.zeros((4096, CHANNELS), np.int64))
        assert book.counts.sum() < (4096 + 4096) * 64
    assert book.counts.min() > 0


def test_giant_residuals_overflow_nothing():
    book = AdaptiveCodebook(start(), 2)
    index = np.array([0, 1, 2], np.int32)
    giant = np.full((3, CHANNELS), 1 << 28)
    for _ in range(20):
        book.update(index, giant)
        book.update(index, -giant)
    assert np.abs(book.codeword(np.arange(10, dtype=np.int32))).max() < 1e6


def test_a_session_without_a_profile_is_refused():
    with pytest.raises(ProfileError, match="need a profile"):
        SessionCodec(None)
