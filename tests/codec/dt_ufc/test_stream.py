"""The framing, and hostile streams: only the documented errors, and no memory before a check."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from featurewire_codec import BitstreamError, CodecError, ProfileError
from featurewire_codec.dt_ufc import DtUfcCodec, plane
from featurewire_codec.dt_ufc.stream import (
    Header,
    read_centres,
    read_header,
    write_centres,
    write_header,
)
from synthetic_features import make_tokens


@pytest.fixture(scope="module")
def data():
    return DtUfcCodec().encode(make_tokens(4, 40), -30)


def resealed(data: bytes) -> bytes:
    """The stream's only chunk with the CRC of what it has become."""
    length = read_header(data)[1]
    seed = zlib.crc32(struct.pack("<I", 0), zlib.crc32(data[:length]))
    return data[:-4] + struct.pack("<I", zlib.crc32(data[length:-4], seed))


@pytest.mark.parametrize("grid", [None, (3, 4)])
@pytest.mark.parametrize("profile", [None, b"12345678"])
def test_a_header_is_read_as_it_was_written(grid, profile):
    centres = None if profile else np.linspace(-2, 5, 256, dtype=np.float32)
    header = Header(14, 7, grid, 2, b"abcd", profile, centres)
    data = write_header(header)
    read, length = read_header(data + b"more")
    assert length == len(data)
    assert (read.tokens, read.channels, read.grid, read.quality) == (14, 7, grid, 2)
    assert (read.networks, read.profile) == (b"abcd", profile)
    if centres is not None:
        np.testing.assert_allclose(read.centres, centres, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("largest", [1e-44, 1e-30, 1.0, 900.0, 3.4e38])
def test_centres_of_any_size_keep_eleven_bits(largest):
    shape = np.sort(np.random.default_rng(0).uniform(-1, 1, 256))
    centres = (shape * largest).astype(np.float32)
    read = read_centres(write_centres(centres))
    np.testing.assert_allclose(read, centres, rtol=2**-10, atol=1e-8 * largest + 1e-43)


def test_every_truncation_raises_the_documented_error(data):
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            DtUfcCodec().decode(data[:length])
    with pytest.raises(BitstreamError, match="follow the last chunk"):
        DtUfcCodec().decode(data + b"\0")


def test_every_altered_byte_raises_the_documented_error(data):
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= 1 << place % 8
        with pytest.raises((BitstreamError, ProfileError)):
            DtUfcCodec().decode(bytes(altered))


def test_altered_streams_with_a_right_crc_raise_only_the_documented_errors(data):
    rng = np.random.default_rng(0)
    header_bytes = read_header(data)[1]
    raised = 0
    for _ in range(150):
        altered = bytearray(data)
        for place in rng.integers(header_bytes, len(data) - 4, rng.integers(1, 4)):
            altered[place] = rng.integers(256)
        try:
            assert DtUfcCodec().decode(resealed(bytes(altered))).shape == (40, 32)
        except CodecError:
            raised += 1
    assert raised > 5


def test_words_that_no_symbol_takes_are_found(data):
    length = read_header(data)[1]
    (count,) = struct.unpack_from("<I", data, length)
    words = data[length + 8 : -4]
    longer = struct.pack("<I", count + 1) + data[length + 4 : length + 8] + b"\1\0\0\0" + words
    with pytest.raises(BitstreamError, match="do not end where"):
        DtUfcCodec().decode(resealed(data[:length] + longer + data[-4:]))


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, b"FW", "begins with"),
        (2, b"\x02", "version 2"),
        (3, b"\x04", "reserved"),
        (4, struct.pack("<I", 0), "beyond"),
        (4, struct.pack("<I", 2**32 - 1), "beyond"),
        (4, struct.pack("<I", 2**24), "values"),
        (8, struct.pack("<I", 2**31), "beyond"),
        (12, b"\x09", "network 9"),
        (17, struct.pack("<f", float("nan")), "not finite"),
        (17, struct.pack("<f", -1.0), "not sorted"),
        (21, b"\x00\x7c", "not finite"),
    ],
)
def test_a_wrong_field_of_the_header_is_named(data, place, value, words):
    with pytest.raises(BitstreamError, match=words):
        DtUfcCodec().decode(data[:place] + value + data[place + len(value) :])


def test_other_networks_are_named(data):
    with pytest.raises(ProfileError, match="61626364"):
        DtUfcCodec().decode(data[:13] + b"abcd" + data[17:])


def test_a_declared_shape_or_length_costs_no_memory(data):
    header_bytes = read_header(data)[1]
    tall = data[:4] + struct.pack("<I", 1 << 20) + data[8:]
    long = data[:header_bytes] + struct.pack("<I", 2**32 - 1) + data[header_bytes + 4 :]
    most = data[:header_bytes] + struct.pack("<I", 1000) + data[header_bytes + 4 :]
    for huge, words in ((tall, "CRC"), (long, "words"), (most, "inside chunk")):
        tracemalloc.start()
        with pytest.raises(BitstreamError, match=words):
            DtUfcCodec().decode(huge)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


def test_reordered_chunks_are_found(monkeypatch):
    monkeypatch.setattr(plane, "MAX_PIXELS", 1 << 14)
    chunks = list(DtUfcCodec().encode_chunks(make_tokens(3, 600, channels=64), -30))
    header_bytes = read_header(chunks[0])[1]
    swapped = chunks[0][:header_bytes] + chunks[1] + chunks[0][header_bytes:] + chunks[2]
    with pytest.raises(BitstreamError, match="chunk 0"):
        DtUfcCodec().decode(swapped)
