"""What bytes declare is bounded before anything of that size is made."""

import struct
import tracemalloc

import numpy as np
import pytest
import torch
from featurewire_codec import (
    BitstreamError,
    ChunkError,
    Decoder,
    FeatureCodec,
    FeatureError,
    Profile,
)
from featurewire_codec.bitstream import MAX_CHUNK_FEATURES
from featurewire_codec.block_dct import BlockDct
from featurewire_codec.cursor import signed_varint, varint
from featurewire_codec.dt_ufc import DtUfcCodec
from featurewire_codec.entropy_coder import unpack_fields
from golden_bad import PLAIN, WHOLE, frame, header

MIB = 1 << 20


@pytest.fixture
def peak():
    """A function that returns the most bytes in use since the test began."""
    FeatureCodec().decode(FeatureCodec().encode(np.ones((1, 1), np.float32)))  # imports torch
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def refused(
    data: bytes, error: type[Exception], words: str, decoder: Decoder | None = None
) -> None:
    with pytest.raises(error, match=words):
        list((decoder or Decoder()).feed(data))


@pytest.mark.parametrize("shape", [(2**16, 2**15), (2**24, 2**7), (2**31, 1), (1, 2**31)])
def test_two_to_the_31_declared_elements_are_refused_before_they_cost_anything(shape, peak):
    data = b"FW\x05\x00" + varint(shape[0]) + varint(shape[1]) + b"\0" + struct.pack("<f", 1.0)
    refused(data, BitstreamError, "shape|at most")
    with pytest.raises(BitstreamError, match="shape"):
        FeatureCodec(framing="session").decoder(shape)
    assert peak() < MIB


@pytest.mark.parametrize("codec", [FeatureCodec, DtUfcCodec])
@pytest.mark.parametrize("kind", [np.float16, np.float32, torch.float16])
def test_a_feature_of_2_to_the_31_values_is_refused_before_it_is_converted(codec, kind, peak):
    made = codec()
    tracemalloc.reset_peak()
    before = peak()
    if kind is torch.float16:
        feature = torch.zeros(1, dtype=kind).expand(2**20, 2**11)
    else:
        feature = np.broadcast_to(kind(1), (2**20, 2**11))
    with pytest.raises(FeatureError, match="beyond"):
        made.encode(feature)
    assert peak() - before < MIB


@pytest.mark.parametrize("what", [[[1.0, 2.0]], 3.0, None, "feature"])
def test_what_is_no_array_is_refused(what):
    with pytest.raises(FeatureError, match="numpy array or a torch tensor"):
        FeatureCodec().encode(what)


@pytest.mark.parametrize("feature", [torch.eye(3).to_sparse(), torch.empty(3, 3, device="meta")])
def test_tensors_without_readable_values_are_refused(feature):
    with pytest.raises(FeatureError, match="values"):
        FeatureCodec().encode(feature)


def test_the_largest_shape_costs_nothing_until_its_chunks_come(peak):
    head = header(2**24, 16)
    decoder = Decoder()
    assert list(decoder.feed(head)) == []
    fields = bytes([PLAIN]) + varint(0) + varint(2**18 + 1) + signed_varint(48)
    refused(frame(fields + b"\x01", head), ChunkError, f"within 1 to {MAX_CHUNK_FEATURES}", decoder)
    fields = bytes([PLAIN]) + varint(2**24 - 1) + varint(1) + signed_varint(48)
    refused(frame(fields + b"\x01", head), ChunkError, "do not end where", decoder)
    assert peak() < 4 * MIB


def test_a_declared_chunk_length_beyond_the_shape_is_refused_before_its_bytes_arrive(peak):
    refused(header(1, 1) + varint(2**30), BitstreamError, "bytes in a chunk")
    refused(header(2**24, 16) + varint(2**26), BitstreamError, "bytes in a chunk")
    assert peak() < MIB


def test_declared_raw_bits_and_lanes_beyond_the_chunk_are_refused(peak):
    head = header(128, 128)
    for body in (b"\x19\x60" + varint(2**25), b"\x09\x60" + 3 * varint(2**25) + b"\x01"):
        refused(head + frame(body, head), ChunkError, "at most")
    assert peak() < MIB


def test_the_largest_chunk_is_decoded_within_memory(peak):
    """Few bytes may stand for 2^22 coefficients, and not for more than some 200 MiB."""
    head = header(2**22, 1)
    fields = bytes([PLAIN | WHOLE]) + signed_varint(-2048)
    words = b"\0\0\0" + bytes([1, 2, 3, 4])
    refused(head + frame(fields + words, head), ChunkError, "do not end")
    fields = bytes([PLAIN | WHOLE | 16]) + signed_varint(2048) + varint(0)
    refused(head + frame(fields + words, head), ChunkError, "raw bits|do not end")
    assert peak() < 250 * MIB


def test_raw_bits_of_the_largest_chunk_are_unpacked_within_memory(peak):
    widths = np.full(MAX_CHUNK_FEATURES, 24, np.uint8)
    values = unpack_fields(bytes(3 * MAX_CHUNK_FEATURES), widths)
    assert not values.any()
    assert peak() < 100 * MIB


@pytest.mark.parametrize("grid", [(2**24, 1), (1, 2**24), (2**23, 2)])
def test_a_grid_of_any_size_costs_what_its_chunk_costs(grid, peak):
    channels = 16
    eye, mean = np.eye(channels, dtype=np.float32)[None], np.zeros(channels, np.float32)
    transform = BlockDct(mean, mean, eye, 2)
    rate = np.array([0], np.int32), np.array([10.0])
    offsets = np.full(transform.columns, 48, np.int32)
    profile = Profile(transform, 1.0, offsets, *rate, {})
    digest = bytes.fromhex(profile.digest)[:8]
    head = header(2**24, channels, flags=1, grid=grid, tail=digest)
    fields = b"\x00" + varint(0) + varint(2 * grid[1] if grid[1] < 3 else 2**18)
    expected = "do not end where|raw bits" if grid[1] < 3 else "bands of blocks"
    words = b"\x01" if grid[1] < 3 else b"\0\0\0" + bytes([1, 2, 3, 4])
    refused(head + frame(fields + words, head), ChunkError, expected, Decoder(profile))
    assert peak() < 8 * MIB
