"""The entropy coder and its compiled twin: exact integers, one format, and what ends it."""

import numpy as np
import pytest
from featurewire_codec import entropy_coder
from featurewire_codec.coefficients import class_models
from featurewire_codec.entropy_coder import START, Table, pack_fields, unpack_fields
from featurewire_codec.entropy_model import GROUP_CLASS
from featurewire_codec.errors import BitstreamError
from featurewire_codec.kernels import ans
from featurewire_codec.kernels import fields as compiled_fields
from hypothesis import given
from hypothesis import strategies as st

CODERS = [entropy_coder, ans]
CHECK = 0xABCDE


def some_groups(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return symbols of any number in any groups, and how many each group has."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 90, 160) * (rng.random(160) < 0.2)
    sizes = [len(table.frequencies) for table in class_models().classes]
    pairs = zip(GROUP_CLASS, counts, strict=True)
    parts = [rng.integers(0, sizes[number], count) for number, count in pairs]
    return np.concatenate(parts).astype(np.uint8), counts.astype(np.int64)


@pytest.mark.parametrize("coder", CODERS)
def test_words_are_the_state_of_exact_integer_arithmetic(coder):
    """The state is one big integer while it stays under 64 bits: no float is in it."""
    table = class_models().classes[46]
    cumulative = [sum(table.frequencies[:n].tolist()) for n in range(len(table.frequencies))]
    symbols = [10, 9, 11, 10]
    state = START + CHECK
    for symbol in reversed(symbols):
        frequency = int(table.frequencies[symbol])
        state = (state // frequency << 24) + state % frequency + cumulative[symbol]
    assert state < 2**64
    encoder = coder.Encoder(1, CHECK, ())
    encoder.push(np.array(symbols, np.int32), table)
    (words,) = encoder.words()
    assert sum(int(word) << 32 * place for place, word in enumerate(words)) == state


@pytest.mark.parametrize("lanes", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_both_coders_write_the_same_words_and_read_each_others(lanes, seed):
    models = class_models()
    symbols, counts = some_groups(seed)
    rng = np.random.default_rng(seed)
    index_table = Table(np.array([2**24 - 70000, *[1000] * 70], np.int64))
    index = rng.integers(0, 71, 50).astype(np.int32)
    rows = rng.integers(0, 63, 33).astype(np.int32)
    made = []
    for coder in CODERS:
        encoder = coder.Encoder(lanes, CHECK, models.groups)
        encoder.push_groups(symbols, counts)
        encoder.push(rows, models.rows)
        encoder.push(index, index_table)
        made.append(encoder.words())
    for one, other in zip(*made, strict=True):
        np.testing.assert_array_equal(one, other)
    for coder in CODERS:
        decoder = coder.Decoder(made[0], CHECK, models.groups)
        np.testing.assert_array_equal(decoder.pop(50, index_table), index)
        np.testing.assert_array_equal(decoder.pop(33, models.rows), rows)
        np.testing.assert_array_equal(decoder.pop_groups(counts), symbols)
        decoder.finish()


def test_the_products_that_compiled_loops_divide_by_are_exact():
    """For states next to multiples of a frequency, up to the largest that a symbol is pushed to."""
    rng = np.random.default_rng(5)
    counts = {1, 2, 3, 2**13 - 1, 2**13, 2**14 - 1, *rng.integers(1, 2**14, 400).tolist()}
    tables = [Table(np.array([count, 2**14 - count])) for count in counts]
    factors = ans.packed_tables(tables).factors[:, 0].tolist()
    for frequency, start_and_shift, rest, factor in factors:
        assert rest == 2**24 - frequency
        for times in (2**40 - 1, 2**39 + 1, *rng.integers(1, 2**40, 20).tolist()):
            for state in (times * frequency - 1, times * frequency, (times + 1) * frequency - 1):
                quotient = ((state >> 9) * factor >> 64) >> (start_and_shift & 63)
                assert quotient == state // frequency


@pytest.mark.parametrize("coder", CODERS)
def test_a_table_of_one_symbol_costs_nothing(coder):
    table = Table(np.array([1 << 24], np.int64))
    encoder = coder.Encoder(1, CHECK, ())
    encoder.push(np.zeros(9, np.int32), table)
    (words,) = encoder.words()
    assert words.tolist() == [START + CHECK]
    decoder = coder.Decoder([words], CHECK, ())
    assert decoder.pop(9, table).tolist() == [0] * 9
    decoder.finish()


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("damage", ["another check", "a word more", "a symbol more", "no symbols"])
def test_words_that_do_not_end_where_their_symbols_do_are_refused(coder, damage):
    models = class_models()
    symbols, counts = some_groups(9)
    encoder = coder.Encoder(4, CHECK, models.groups)
    encoder.push_groups(symbols, counts)
    words = encoder.words()
    if damage == "a word more":
        words[2] = np.concatenate([np.array([7], np.uint32), words[2]])
    decoder = coder.Decoder(words, CHECK + (damage == "another check"), models.groups)
    if damage != "no symbols":
        decoder.pop_groups(counts)
    if damage == "a symbol more":
        decoder.pop(1, models.rows)
    with pytest.raises(BitstreamError, match="do not end"):
        decoder.finish()


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_random_words_decode_to_the_same_symbols_with_both_coders(coder, lanes):
    """What an attacker sends is no one encoder's; both must still make the same of it."""
    models = class_models()
    _, counts = some_groups(1)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 60, lanes)
        words = [rng.integers(1, 2**32, size).astype(np.uint32) for size in sizes]
        reference = entropy_coder.Decoder(words, 0, models.groups)
        decoder = coder.Decoder(words, 0, models.groups)
        np.testing.assert_array_equal(decoder.pop_groups(counts), reference.pop_groups(counts))
        pair = decoder.pop(20, models.rows), reference.pop(20, models.rows)
        np.testing.assert_array_equal(*pair)


@pytest.mark.parametrize("coder", CODERS)
def test_a_zero_word_at_the_end_is_refused(coder):
    with pytest.raises(BitstreamError, match="zero word"):
        coder.Decoder([np.array([1, 0], np.uint32)], 0, ())


FIELDS = st.lists(st.tuples(st.integers(0, 32), st.integers(0, 2**32 - 1)), max_size=50)


@given(FIELDS)
def test_bit_fields_round_trip(fields):
    widths = np.array([width for width, _ in fields], np.int64)
    values = np.array([value % 2**width for width, value in fields], np.int64)
    data = pack_fields(values, widths)
    text = "".join(f"{v:0{w}b}" for v, w in zip(values, widths, strict=True) if w)
    assert "".join(f"{byte:08b}" for byte in data) == text + "0" * (-len(text) % 8)
    np.testing.assert_array_equal(unpack_fields(data, widths), values)


def test_bit_fields_longer_than_a_block_round_trip():
    rng = np.random.default_rng(0)
    widths = rng.integers(0, 25, 3 << 16)
    values = rng.integers(0, 1 << 24, 3 << 16) & ((1 << widths) - 1)
    np.testing.assert_array_equal(unpack_fields(pack_fields(values, widths), widths), values)


def test_bit_fields_of_another_length_or_padding_are_refused():
    widths = np.array([3, 4])
    with pytest.raises(BitstreamError, match="2 bytes of raw bits, 1 are due"):
        unpack_fields(b"\0\0", widths)
    with pytest.raises(BitstreamError, match="padding"):
        unpack_fields(b"\x01", widths)
    assert unpack_fields(b"\xfe", widths).tolist() == [7, 15]


def some_raw_bits(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return low bits, most of width 0, their widths, and excesses of any size."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 400)) * (seed % 3 > 0)
    widths = (rng.integers(1, 25, count) * (rng.random(count) < 0.1)).astype(np.uint8)
    low = (rng.integers(0, 1 << 24, count) & ((1 << widths.astype(np.int64)) - 1)).astype(np.int32)
    excess = np.floor(2.0 ** rng.uniform(0, 32, int(rng.integers(0, 9)))).astype(np.int64) - 1
    return low, widths, excess


@pytest.mark.parametrize("seed", range(30))
def test_raw_bits_are_packed_alike_and_come_back(seed):
    low, widths, excess = some_raw_bits(seed)
    data, lengths = entropy_coder.pack_raw(low, widths, excess)
    assert lengths.tolist() == [(value + 1).bit_length() for value in excess.tolist()]
    ours, own_lengths = compiled_fields.pack_raw(low, widths, excess)
    assert ours == data
    np.testing.assert_array_equal(own_lengths, lengths)
    for fields in (entropy_coder, compiled_fields):
        back = fields.unpack_raw(data, widths, lengths)
        np.testing.assert_array_equal(back[0], low)
        np.testing.assert_array_equal(back[1], excess)
        with pytest.raises(BitstreamError, match="bytes of raw bits"):
            fields.unpack_raw(data + b"\0", widths, lengths)
