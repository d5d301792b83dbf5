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
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_features import make_tokens


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
    with pytest.raises(ChunkError, match=r"CRC-32 .* so far tokens 100 to 299 miss"):
        list(decoder.feed(bytes(damaged)))
    got += decoder.feed(chunks[2])
    assert [rows.tokens.start for rows in got] == [0, 200]
    assert decoder.missing == [range(100, 200)]
    with pytest.raises(BitstreamError, match=r"100 of 300 tokens miss: tokens 100 to 199$"):
        decoder.finish()
    assert [rows.tokens.start for rows in decoder.feed(chunks[1])] == [100]
    decoder.finish()


def test_chunks_that_never_came_are_named(chunks):
    decoder = Decoder()
    assert decoder.missing == []
    list(decoder.feed(chunks[0]))
    assert decoder.missing == [range(100, 300)]
    list(decoder.feed(chunks[2]))
    assert decoder.missing == [range(100, 200)]
    list(decoder.feed(chunks[1]))
    assert decoder.missing == []


def test_a_chunks_length_that_is_wrong_ends_the_bitstream_and_what_came_before_stays(chunks):
    decoder = Decoder()
    assert len(list(decoder.feed(chunks[0]))) == 1
    with pytest.raises(ChunkError, match="CRC-32"):
        list(decoder.feed(chunks[1][:-10] + chunks[2]))
    with pytest.raises(BitstreamError):
        list(decoder.feed(b""))
    assert decoder.missing == [range(100, 300)]


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


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_codec_errors_only(data):
    with pytest.raises(CodecError):
        FeatureCodec().decode(data)
    with pytest.raises(CodecError):
        inspect(data)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("damage", ["altered", "lost", "cut"])
def test_damage_costs_the_rows_of_its_chunk_only(chunks, damage, place):
    whole = FeatureCodec().decode(b"".join(chunks))
    head = chunks[0][: inspect(b"".join(chunks)).header_bytes]
    pieces = [chunks[0][len(head) :], *chunks[1:]]
    if damage == "altered":
        pieces[place] = pieces[place][:900] + b"\x55\xaa" + pieces[place][902:]
    elif damage == "cut":  # by as much as another stream's bytes make up for
        pieces[place] = pieces[place][:-50] + bytes(50)
    else:
        pieces[place] = b""
    decoder, got, errors = Decoder(), [], 0
    for piece in (head, *pieces):
        feed = piece
        while True:
            try:
                got += decoder.feed(feed)
                break
            except ChunkError:
                feed, errors = b"", errors + 1
    assert errors == (damage != "lost")
    lost = range(100 * place, 100 * place + 100)
    assert [rows.tokens for rows in got] == [
        range(n, n + 100) for n in (0, 100, 200) if n != lost.start
    ]
    for rows in got:
        assert torch.equal(rows.values, whole[rows.tokens.start : rows.tokens.stop])
    with pytest.raises(BitstreamError, match="100 of 300 tokens miss"):
        decoder.finish()


def test_a_damaged_chunk_whose_crc_is_right_is_named_by_its_tokens(chunks):
    head = chunks[0][: inspect(b"".join(chunks)).header_bytes]
    altered = bytearray(chunks[1][:-4])
    altered[-50] ^= 1
    altered += struct.pack("<I", zlib.crc32(head + bytes(altered)))
    decoder = Decoder()
    got = list(decoder.feed(chunks[0]))
    with pytest.raises(ChunkError, match="tokens 100 to 199: the entropy-coded words do not end"):
        list(decoder.feed(bytes(altered)))
    got += decoder.feed(chunks[2])
    assert [rows.tokens.start for rows in got] == [0, 200]
