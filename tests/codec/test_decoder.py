"""The decoder in pieces, and against bytes that no encoder made."""

import struct
import zlib

import numpy as np
import pytest
import torch
from featurewire_codec import (
    BitstreamError,
    ChunkError,
    CodecError,
    Decoder,
    FeatureCodec,
    inspect,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_features import make_grid, make_tokens

FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def chunks():
    feature = np.random.default_rng(3).normal(size=(300, 2048)).astype(np.float32)
    made = list(FeatureCodec().encode_chunks(feature, 6))
    assert len(made) == 3
    return made


def collect(decoder, pieces):
    return [rows for piece in pieces for rows in decoder.feed(piece)]


@pytest.mark.parametrize("size", [1000, 65536, 10**9])
def test_pieces_of_any_size_yield_tokens_as_they_complete(chunks, size):
    data = b"".join(chunks)
    decoder = Decoder()
    got = collect(decoder, [data[i : i + size] for i in range(0, len(data), size)])
    decoder.finish()
    assert [rows.tokens for rows in got] == [range(100), range(100, 200), range(200, 300)]
    assert torch.equal(torch.cat([r.values for r in got]), FeatureCodec().decode(data))


def test_each_chunk_completes_its_tokens_at_once(chunks):
    decoder = Decoder()
    assert [len(list(decoder.feed(chunk))) for chunk in chunks] == [1, 1, 1]


def test_bytes_one_at_a_time():
    data = FeatureCodec().encode(make_tokens(1, 3), 10)
    decoder = Decoder()
    assert len(collect(decoder, [bytes([byte]) for byte in data])) == 1
    decoder.finish()


def test_reordered_chunks_decode_to_the_same_feature(chunks):
    head = chunks[0][: inspect(b"".join(chunks)).header_bytes]
    mixed = head + chunks[2] + chunks[0][len(head) :] + chunks[1]
    assert torch.equal(FeatureCodec().decode(mixed), FeatureCodec().decode(b"".join(chunks)))


def test_a_duplicated_chunk_is_refused_by_name(chunks):
    with pytest.raises(ChunkError, match=r"tokens 100 to 199: .* already arrived"):
        FeatureCodec().decode(b"".join([*chunks[:2], chunks[1], chunks[2]]))


def test_a_damaged_chunk_raises_and_the_rest_goes_on(chunks):
    damaged = bytearray(chunks[1])
    damaged[500] ^= 4
    decoder = Decoder()
    got = list(decoder.feed(chunks[0]))
    with pytest.raises(ChunkError, match="CRC-32"):
        list(decoder.feed(bytes(damaged)))
    got += decoder.feed(chunks[2])
    assert [rows.tokens.start for rows in got] == [0, 200]
    with pytest.raises(BitstreamError, match="100 of 300 tokens miss"):
        decoder.finish()
    assert [rows.tokens.start for rows in decoder.feed(chunks[1])] == [100]
    decoder.finish()


def test_a_chunk_of_another_stream_is_refused(chunks):
    other = np.random.default_rng(4).normal(size=(300, 2048)).astype(np.float32)
    strange = list(FeatureCodec().encode_chunks(other, 7))[1]
    with pytest.raises(ChunkError, match="CRC-32"):
        FeatureCodec().decode(chunks[0] + strange + chunks[2])


def test_a_cut_bitstream_is_refused_at_every_length():
    data = FeatureCodec().encode(make_tokens(1, 4), 10)
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            FeatureCodec().decode(data[:length])
    with pytest.raises(BitstreamError):
        FeatureCodec().decode(data + b"\0")


@FUZZ
@given(st.binary(max_size=200))
def test_random_bytes_raise_codec_errors_only(data):
    with pytest.raises(CodecError):
        FeatureCodec().decode(data)
    with pytest.raises(CodecError):
        inspect(data)


def repaired(data: bytes) -> bytes:
    """Put the right CRC on a stream of one chunk, so that what is behind it is reached."""
    body = data[:-4]
    return body + struct.pack("<I", zlib.crc32(body))


@FUZZ
@given(edits=st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), max_size=4))
@pytest.mark.parametrize("kind", ["plain", "token", "grid"])
def test_altered_bytes_with_a_right_crc_raise_codec_errors_only(
    kind, edits, token_profile, grid_profile
):
    profile = {"plain": None, "token": token_profile, "grid": grid_profile}[kind]
    feature, grid = make_tokens(1, 20), None
    if kind == "grid":
        feature, grid = make_grid(1, 9, 10, prefix=2), (9, 10)
    data = bytearray(FeatureCodec(profile).encode(feature, 12, grid))
    for place, value in edits:
        data[place % len(data)] = value
    try:
        decoded = FeatureCodec(profile).decode(repaired(bytes(data)))
    except CodecError:
        return
    assert torch.isfinite(decoded).all()


def stream(tokens: int, channels: int, body: bytes) -> bytes:
    """A plain stream with one chunk body, its length and CRC right."""
    header = b"FW\x01\x00" + varint(tokens) + varint(channels) + b"\0" + struct.pack("<f", 1.0)
    data = header + varint(len(body)) + body
    return data + struct.pack("<I", zlib.crc32(data))


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04", "begins with"),
        (b"FW\x02\x00", "version 2, this decoder has 1"),
        (b"FW\x01\x04", "reserved flags"),
        (stream(0, 3, b""), "shape 0 x 3"),
        (stream(2**24, 2**16, b""), "not within"),
        (stream(2**25, 1, b""), "at most 16777216"),
        (b"FW\x01\x00" + b"\xff" * 12, "not a variable-length integer"),
        (b"FW\x01\x00\x80\x00\x01", "number of tokens"),
        (stream(1, 1, b"\x10\0\0"), "reserved flags"),
        (stream(1, 1, b"\x09\0\x05"), "words in a chunk"),
        (stream(1, 1, b"\x01"), "ends inside"),
        (stream(9, 1, b"\x01\x09\x01\0\0"), "first token"),
        (stream(9, 1, b"\x01\x02\x08\0\0"), "tokens in a chunk"),
        (stream(1, 1, b"\x08\0\0"), "needs a profile"),
        (stream(2**24, 16, b"\x09\0\0"), "not within 1 to 4194304"),
        (stream(1, 1, b"\x09\xff\x7f\0"), "base level"),
        (stream(1, 1, b"\x09\0\x01\0\0\0\0"), "zero word"),
        (stream(1, 1, b"\x09\0\x01\x01\0\0\0"), "bytes of raw bits|do not end"),
        (stream(1, 1, b"\x09\0\0\xff"), "raw bits"),
    ],
)
def test_each_attack_has_its_sentence(data, words):
    with pytest.raises(BitstreamError, match=words):
        FeatureCodec().decode(data)


def test_a_declared_length_beyond_the_shape_is_refused_before_its_bytes_arrive():
    head = b"FW\x01\x00\x01\x01\x00" + struct.pack("<f", 1.0)
    with pytest.raises(BitstreamError, match="bytes in a chunk"):
        list(Decoder().feed(head + varint(2**30)))
