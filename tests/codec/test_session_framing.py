"""The framing within a session: what is agreed on is not sent, and disagreement is found."""

import numpy as np
import pytest
import torch
from featurewire_codec import (
    BitstreamError,
    ChunkError,
    FeatureCodec,
    FeatureError,
    SessionCodec,
    inspect,
)
from featurewire_codec.session_framing import BARE, BARE_ROWS, FIELDS, FRAMED
from synthetic_features import make_grid, make_tokens, make_words


def form_of(data: bytes) -> int:
    return data[1] >> 6


@pytest.mark.parametrize("kind", ["plain", "token", "codebook", "grid"])
@pytest.mark.parametrize("tokens", [1, 40, 3000])
def test_a_session_carries_what_a_file_does_in_fewer_bytes(kind, tokens, request):
    profile, grid = None, None
    feature = make_words(3, tokens, 32 if tokens < 3000 else 256)
    if kind in ("token", "codebook"):
        profile = request.getfixturevalue(f"{kind}_profile")
        feature = make_words(3, tokens)
    elif kind == "grid":
        profile, grid = request.getfixturevalue("grid_profile"), (1 if tokens == 1 else 9, tokens)
        feature = make_grid(3, *grid, prefix=1)
    file, session = FeatureCodec(profile), FeatureCodec(profile, framing="session")
    whole, short = file.encode(feature, 20, grid), session.encode(feature, 20, grid)
    assert len(short) <= len(whole) - 14
    values = session.decode(short, shape=feature.shape, grid=grid)
    if profile:
        assert torch.equal(values, file.decode(whole))
    else:
        torch.testing.assert_close(values, file.decode(whole))


def test_a_plain_token_has_four_bytes_beside_its_words_and_a_file_some_fifteen_more():
    feature = np.random.default_rng(0).laplace(size=(1, 384)).astype(np.float32)
    feature[0, ::64] = 1.0
    data, file = (FeatureCodec(framing=f).encode(feature, 3.0) for f in ("session", "file"))
    assert form_of(data) == FIELDS
    assert data[2] == 9  # plain, all tokens: no raw bits, no exponents; then comes the base
    assert FeatureCodec(framing="session").decode(data, shape=(1, 384)).shape == (1, 384)
    # A header less two bytes, a length and a CRC-32; other checks may end in another byte.
    assert abs(len(file) - len(data) - (inspect(file).header_bytes - 2 + 1 + 4)) <= 1
    assert len(file) - len(data) >= 14


def test_a_token_by_its_profile_has_three_bytes_beside_its_words(token_profile):
    codec = FeatureCodec(token_profile, framing="session")
    quiet = token_profile.transform.mean[None].copy()
    data = codec.encode(quiet, 0.0)
    assert form_of(data) in (BARE, BARE_ROWS)
    assert len(data) <= 3 + 4 + 2  # the lead, no raw bits, the state, and next to nothing
    assert codec.decode(data, shape=(1, 32)).shape == (1, 32)


def test_each_form_is_used_where_it_is_shortest(token_profile):
    codec = FeatureCodec(token_profile, framing="session")
    even = make_tokens(1, 1, giants=False)
    forms = {form_of(codec.encode(even * np.float32(gain), 10)) for gain in (1, 0.1, 10)}
    assert forms <= {BARE, BARE_ROWS, FIELDS}
    assert BARE_ROWS in forms
    far = np.random.default_rng(0).laplace(size=(9, 32)).astype(np.float32)
    assert form_of(codec.encode(far * np.geomspace(90, 1e-3, 32, dtype="f4"), 20)) == FIELDS
    chunks = list(codec.encode_chunks(make_tokens(2, 10_000), 5))
    assert form_of(chunks[0]) == FRAMED
    assert len(chunks) == 2


@pytest.mark.parametrize("change", ["shape", "profile", "grid", "none"])
def test_what_was_agreed_on_differently_is_found_by_the_check(
    change, token_profile, codebook_profile
):
    feature = make_tokens(4, 12)
    data = FeatureCodec(token_profile, framing="session").encode(feature, 15)
    other = {"profile": codebook_profile, "none": None}.get(change, token_profile)
    shape = (13, 32) if change == "shape" else (12, 32)
    grid = (3, 4) if change == "grid" else None
    with pytest.raises(ChunkError, match=r"do not end where|bytes of raw bits|needs a profile"):
        FeatureCodec(other, framing="session").decode(data, shape=shape, grid=grid)


def test_altered_bits_of_what_stands_before_the_words_are_found_and_most_of_the_words(
    token_profile,
):
    """The transport finds damage; the check is for disagreement, and has no distance of its own."""
    codec = FeatureCodec(token_profile, framing="session")
    data = codec.encode(make_tokens(4, 3), 12)
    assert form_of(data) == BARE_ROWS
    before = 2 + 1 + data[2]  # the lead; a length and as many bytes of raw bits
    assert data[2]
    missed = []
    for bit in range(8 * len(data)):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        try:
            codec.decode(bytes(altered), shape=(3, 32))
        except BitstreamError:
            continue
        missed.append(bit)
    assert not [bit for bit in missed if bit < 8 * before]
    assert len(missed) <= 0.05 * 8 * len(data)


def test_chunks_of_a_session_are_decoded_as_they_come_and_damage_is_named():
    feature = np.random.default_rng(3).normal(size=(300, 2048)).astype(np.float32)
    codec = FeatureCodec(framing="session")
    chunks = list(codec.encode_chunks(feature, 6))
    assert len(chunks) == 3
    damaged = bytearray(chunks[1])
    damaged[-100] ^= 4
    decoder = codec.decoder(feature.shape)
    got = list(decoder.feed(chunks[0]))
    with pytest.raises(ChunkError, match="tokens 100 to 199: "):
        list(decoder.feed(bytes(damaged)))
    got += decoder.feed(chunks[2][:1000])
    got += decoder.feed(chunks[2][1000:])
    assert [rows.tokens for rows in got] == [range(100), range(200, 300)]
    with pytest.raises(BitstreamError, match="100 of 300 tokens miss"):
        decoder.finish()
    got += decoder.feed(chunks[1])
    decoder.finish()
    whole = torch.cat([rows.values for rows in sorted(got, key=lambda rows: rows.tokens.start)])
    assert torch.equal(whole, codec.decode(b"".join(chunks), shape=feature.shape))


def test_a_shape_goes_with_a_session_and_with_nothing_else():
    data = FeatureCodec(framing="session").encode(make_tokens(1, 3))
    with pytest.raises(BitstreamError, match="framing is 'session' and the shape None"):
        FeatureCodec(framing="session").decode(data)
    with pytest.raises(BitstreamError, match="framing is 'file'"):
        FeatureCodec().decode(data, shape=(3, 32))
    with pytest.raises(FeatureError, match="framing is 'packet'"):
        FeatureCodec(framing="packet")


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2**25, 1), (2**24, 2**10), (1, 2**17)])
def test_a_shape_beyond_the_limits_is_refused(shape):
    with pytest.raises(BitstreamError, match="shape"):
        FeatureCodec(framing="session").decoder(shape)


@pytest.mark.parametrize("asked", [{"max_error": 0.1}, {"target_bits": 4000}])
def test_a_session_that_adapts_refuses_what_needs_trial_encodings(asked, codebook_profile):
    """They would teach the encoding end what the decoding end never sees."""
    sender, receiver = SessionCodec(codebook_profile), SessionCodec(codebook_profile)
    feature = make_words(5, 80)
    with pytest.raises(FeatureError, match="a session takes an snr_db"):
        sender.encode(feature, **asked)
    for turn in range(3):
        data = sender.encode(make_words(turn, 80), 15)
        assert receiver.decode(data, shape=(80, 32)).shape == (80, 32)


@pytest.mark.parametrize("broken_off", ["refused", "left"])
def test_a_session_goes_on_after_an_encoding_that_came_to_nothing(broken_off, codebook_profile):
    """What it has taught the encoding end by then, the decoding end never hears."""
    sender, receiver = SessionCodec(codebook_profile), SessionCodec(codebook_profile)
    fresh = len(sender.encode(make_words(0, 200), 15))
    sender = SessionCodec(codebook_profile)
    for turn in range(2):
        data = sender.encode(make_words(turn, 200), 15)
        assert receiver.decode(data, shape=(200, 32)).shape == (200, 32)
    feature = make_words(3, 300)
    if broken_off == "refused":
        feature[250, 0] = 1e30
        with pytest.raises(FeatureError, match="quantiser steps"):
            sender.encode(feature, 15)
    else:
        started = sender.encode_chunks(feature, 15)
        next(started)
    again = sender.encode(make_words(0, 200), 15)
    assert abs(len(again) - fresh) < 8  # as from the profile's own codewords
    error = ((receiver.decode(again, shape=(200, 32)).numpy() - make_words(0, 200)) ** 2).mean()
    assert 10 * np.log10(codebook_profile.energy / error) > 13
    for turn in range(4, 6):
        data = sender.encode(make_words(turn, 200), 15)
        assert receiver.decode(data, shape=(200, 32)).shape == (200, 32)


def test_shapes_and_grids_are_any_two_whole_numbers():
    feature = make_tokens(1, 36)
    codec = FeatureCodec(framing="session")
    data = codec.encode(feature, 20, grid=[6, 6])
    assert torch.equal(
        codec.decode(data, shape=[36, 32], grid=np.array([6, 6])),
        codec.decode(data, shape=(36, 32), grid=(6, 6)),
    )
    for wrong in ((6, 6, 1), (6,), (6.0, 6.0), "66", 36):
        with pytest.raises(FeatureError, match="two whole numbers"):
            codec.encode(feature, 20, grid=wrong)
        with pytest.raises(BitstreamError, match="two whole numbers"):
            codec.decode(data, shape=wrong)
