"""Each codec's samples come back from their bytes and what was announced, and from nothing else."""

import numpy as np
import pytest
import torch
from featurewire.wire import limits
from featurewire.wire.coder import Coder, max_coded_bytes, warm_up
from featurewire.wire.status import Refusal
from featurewire_codec import BitstreamError, CodecError, FeatureCodec, Profile
from featurewire_codec.backend import load_backend

SAMPLES = torch.from_numpy(
    np.random.default_rng(0).normal(size=(8, 64, 16)).astype(np.float32)
) * torch.linspace(0.1, 3, 16)
SNR_DB = {"featurewire": 25.0, "dt-ufc": 0.0, "float16": 60.0, "float32": 120.0}


@pytest.fixture(scope="module")
def profile() -> Profile:
    return Profile.calibrate(list(SAMPLES[1:].numpy()))


def coded(coder: Coder, sample: torch.Tensor, grid=None, snr_db: float = 25.0) -> bytes:
    return b"".join(coder.encode("hidden", sample, grid, snr_db))


def decoded_by(coder: Coder, name: str, data: bytes, shape, grid, piece=1 << 20) -> torch.Tensor:
    decoder = coder.decoder(name, shape, grid)
    for start in range(0, len(data), piece):
        decoder.feed(data[start : start + piece])
    return decoder.finish()


def snr_db(sample: torch.Tensor, decoded: torch.Tensor) -> float:
    error = float(((sample - decoded) ** 2).sum()) + 1e-30
    return 10 * np.log10(float((sample**2).sum()) / error)


@pytest.mark.parametrize("grid", [None, (8, 8), (7, 9)], ids=["tokens", "grid", "prefix and grid"])
@pytest.mark.parametrize("codec", limits.CODECS)
def test_a_sample_comes_back_from_its_bytes(codec, grid):
    coder = Coder(codec, {})
    data = coded(coder, SAMPLES[0], grid, 30.0)
    decoded = decoded_by(coder, "hidden", data, (64, 16), grid)
    assert (decoded.dtype, decoded.shape) == (torch.float32, (64, 16))
    assert snr_db(SAMPLES[0], decoded) > SNR_DB[codec]


@pytest.mark.parametrize("profiled", [False, True])
def test_the_trellis_sends_less_of_the_same_quality(profile, profiled):
    profiles = {"hidden": profile} if profiled else {}
    fast, trellis = Coder("featurewire", profiles), Coder("featurewire", profiles, "trellis")
    sample, grid = torch.cat(list(SAMPLES)), None
    sizes = [len(coded(coder, sample, grid, 20.0)) for coder in (fast, trellis)]
    assert sizes[1] < 0.98 * sizes[0]
    decoded = decoded_by(fast, "hidden", coded(trellis, sample, grid, 20.0), (512, 16), grid)
    assert snr_db(sample, decoded) > 19


def test_the_tensor_that_has_a_profile_is_coded_with_it(profile):
    coder, plain = Coder("featurewire", {"hidden": profile}), Coder("featurewire", {})
    data = coded(coder, SAMPLES[0])
    assert len(data) < len(coded(plain, SAMPLES[0]))
    assert snr_db(SAMPLES[0], decoded_by(coder, "hidden", data, (64, 16), None)) > 22
    with pytest.raises(CodecError):
        decoded_by(coder, "other", data, (64, 16), None)


@pytest.mark.parametrize("profiled", [False, True])
def test_a_sessions_bitstream_is_smaller_than_a_files_by_its_header(profile, profiled):
    own = profile if profiled else None
    coder = Coder("featurewire", {"hidden": own} if own else {})
    token = SAMPLES[0, :1]
    assert len(coded(coder, token)) <= len(FeatureCodec(own).encode(token)) - 12


@pytest.mark.parametrize("shape", [(63, 16), (64, 17), (16, 64), (1, 16), (64, 1 << 20)])
@pytest.mark.parametrize("codec", ["featurewire", "dt-ufc"])
def test_bytes_of_another_shape_than_announced_are_refused(codec, shape):
    coder = Coder(codec, {})
    data = coded(coder, SAMPLES[0])
    with pytest.raises(BitstreamError):
        decoded_by(coder, "hidden", data, shape, None)


def test_a_feature_of_several_chunks_comes_back_whole():
    feature = torch.randn(1 << 11, 1 << 10, generator=torch.Generator().manual_seed(2))
    coder = Coder("featurewire", {})
    pieces = list(coder.encode("hidden", feature, None, 10.0))
    assert len(pieces) > 4
    assert max(map(len, pieces)) <= limits.MAX_CHUNK_BYTES
    shape = tuple(feature.shape)
    decoded = decoded_by(coder, "hidden", b"".join(pieces), shape, None)
    assert snr_db(feature, decoded) > 9


@pytest.mark.parametrize("codec", ["featurewire", "float16"])
@pytest.mark.parametrize("piece", [1, 2, 1000, 70_000])
def test_a_sample_comes_back_from_pieces_of_any_size(codec, piece):
    feature = torch.randn(1 << 10, 1 << 9, generator=torch.Generator().manual_seed(2))
    coder, shape = Coder(codec, {}), tuple(feature.shape)
    data = coded(coder, feature, None, 3.0)
    whole = decoded_by(coder, "hidden", data, shape, None)
    assert torch.equal(decoded_by(coder, "hidden", data, shape, None, piece), whole)
    with pytest.raises((BitstreamError, Refusal)):
        decoded_by(coder, "hidden", data[:-40], shape, None, piece)


def test_chunks_are_decoded_as_they_come():
    feature = torch.randn(1 << 11, 1 << 10, generator=torch.Generator().manual_seed(2))
    pieces = list(Coder("featurewire", {}).encode("hidden", feature, None, 10.0))
    pieces[2] = bytes(len(pieces[2]))
    decoder = Coder("featurewire", {}).decoder("hidden", tuple(feature.shape), None)
    decoder.feed(pieces[0])
    with pytest.raises(BitstreamError):  # before the last piece is there
        decoder.feed(b"".join(pieces[1:-1]))


@pytest.mark.parametrize("codec", limits.CODECS)
@pytest.mark.parametrize("shape", [(1, 8), (1, 4096), (3, 32)])
def test_no_sample_has_more_bytes_than_a_server_takes(codec, shape):
    sample = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 1e6
    snr_db = 90.0 if codec == "featurewire" else 25.0
    assert len(coded(Coder(codec, {}), sample, None, snr_db)) <= max_coded_bytes(sample.numel())


def test_a_coder_has_its_kernels_before_it_codes():
    warm_up.cache_clear()
    load_backend.cache_clear()
    Coder("featurewire", {})
    assert load_backend.cache_info().currsize == 1


def test_a_coder_has_used_each_profile_before_a_request_does(profile, monkeypatch):
    used = []
    encode = FeatureCodec.encode_chunks

    def counted(self, *arguments, **settings):
        used.append(self.profile)
        return encode(self, *arguments, **settings)

    monkeypatch.setattr(FeatureCodec, "encode_chunks", counted)
    Coder("featurewire", {"hidden": profile})
    assert profile in used
