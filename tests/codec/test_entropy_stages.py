"""Quantiser, entropy model and entropy coder, each on its own."""

import constriction
import numpy as np
import pytest
from featurewire_codec.entropy_coder import (
    RunDecoder,
    encode_runs,
    make_model,
    pack_fields,
    unpack_fields,
)
from featurewire_codec.entropy_model import (
    MAX_RAW_BITS,
    classes_and_raw_bits,
    coding_order,
    from_symbols,
    to_symbols,
)
from featurewire_codec.errors import BitstreamError, FeatureError
from featurewire_codec.quantiser import MAX_INDEX, dequantise, quantise, step_size
from featurewire_codec.tables import class_radii, load_tables
from hypothesis import given
from hypothesis import strategies as st


def test_words_equal_exact_integer_arithmetic():
    """The coder's state is one big integer while it stays under 64 bits: no float is in it."""
    table = load_tables().classes[46]
    cumulative = np.concatenate([[0], np.cumsum(table.astype(object) << 10)])
    symbols = [16, 14, 15, 17, 13]
    state = 0
    for symbol in reversed(symbols):
        frequency = int(table[symbol]) << 10
        state = (state // frequency << 24) + state % frequency + int(cumulative[symbol])
    assert state < 2**64
    words = encode_runs([(np.array(symbols, np.int32), make_model(table))])
    assert sum(int(word) << 32 * place for place, word in enumerate(words)) == state


def test_runs_decode_in_the_order_they_were_encoded():
    models = [make_model(table) for table in load_tables().classes]
    runs = [(np.full(n % 7, n % 4, np.int32), model) for n, model in enumerate(models)]
    decoder = RunDecoder(encode_runs(runs))
    for symbols, model in runs:
        np.testing.assert_array_equal(decoder.take(len(symbols), model), symbols)
    decoder.finish()


def test_words_beyond_the_symbols_are_refused():
    decoder = RunDecoder(np.array([1, 2, 3], np.uint32))
    with pytest.raises(BitstreamError, match="do not end"):
        decoder.finish()


@given(st.lists(st.tuples(st.integers(0, 31), st.integers(0, 2**31 - 1)), max_size=50))
def test_bit_fields_round_trip(fields):
    widths = np.array([width for width, _ in fields], np.int64)
    values = np.array([value % 2**width for width, value in fields], np.int64)
    np.testing.assert_array_equal(unpack_fields(pack_fields(values, widths), widths), values)


@given(st.lists(st.tuples(st.integers(-4000, 4000), st.integers(-MAX_INDEX, MAX_INDEX))))
def test_symbols_round_trip_at_every_level(pairs):
    level = np.array([level for level, _ in pairs], np.int32)
    indices = np.array([index for _, index in pairs], np.int32)
    classes, raw_bits = classes_and_raw_bits(level)
    radii = class_radii()[classes]
    parts = to_symbols(indices, raw_bits, radii)
    assert (parts.symbols >= 0).all()
    assert (parts.symbols <= 2 * radii).all()
    assert (parts.low < 1 << raw_bits.astype(np.int64)).all()
    np.testing.assert_array_equal(from_symbols(parts, raw_bits, radii), indices)


def test_levels_map_to_classes_and_raw_bits():
    classes, raw_bits = classes_and_raw_bits(np.int32([-9, 0, 44, 63, 64, 67, 68, 9999]))
    assert classes.tolist() == [0, 0, 44, 63, 60, 63, 60, 63]
    assert raw_bits.tolist() == [0, 0, 0, 0, 1, 1, 2, MAX_RAW_BITS]


def test_coding_order_is_by_class_then_place():
    assert coding_order(np.uint8([2, 0, 2, 1, 0])).tolist() == [1, 4, 3, 0, 2]


def test_quantiser_rounds_with_a_small_dead_zone():
    values = np.float32([-1.6, -0.57, 0.0, 0.57, 0.59, 1.57, 1.59]) * 2
    assert quantise(values, 32).tolist() == [-2, 0, 0, 0, 1, 1, 2]
    with pytest.raises(FeatureError, match="steps from zero"):
        quantise(np.float32([2.0**31]), 0)


def test_dequantiser_adds_the_centroid_of_class_and_magnitude():
    centroids = np.zeros((64, 4), np.int8)
    centroids[9] = [0, -64, 32, 16]
    rebuilt = dequantise(np.int32([0, 1, -2, 3, 9]), np.uint8([9] * 5), 64, centroids)
    assert rebuilt.tolist() == [0.0, 3.0, -8.5, 12.25, 36.25]


def test_a_step_halves_in_32():
    assert step_size(-32) == 0.5
    assert step_size(33) / step_size(1) == pytest.approx(2)


def test_a_model_is_exact_only_because_its_weights_are():
    """The law this rests on: constriction takes weights f - 1 summing to 2^24 - n as they are."""
    frequencies = np.array([1, 16383], np.uint16)
    coder = constriction.stream.stack.AnsCoder(np.array([1 << 10, 1], np.uint32))
    assert coder.decode(make_model(frequencies), 1).tolist() == [1]
