"""Profiles and backends that the codec's tests share; tests may import the modules beside this."""

import sys
from pathlib import Path

import pytest
from featurewire_codec import (
    Profile,
    coefficients,
    encoder,
    entropy_coder,
    one_sided,
    one_sided_chunk,
    one_sided_symbols,
    panels,
    span,
    trellis,
)
from featurewire_codec.backend import Backend, load_backend

sys.path.insert(0, str(Path(__file__).parent))
from synthetic_features import make_grid, make_one_sided, make_tokens, make_words

USERS = coefficients, encoder, one_sided_chunk, span  # who asks for the backend
PLAIN = Backend(
    "constriction", panels, entropy_coder, trellis, entropy_coder, one_sided, one_sided_symbols
)
BACKENDS = {"numba": load_backend(), "constriction": PLAIN}


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch) -> str:
    """Run a test with each backend."""
    for user in USERS:
        monkeypatch.setattr(user, "load_backend", lambda: BACKENDS[request.param])
    return request.param


@pytest.fixture
def with_backend(monkeypatch):
    """A function that changes the backend within a test."""

    def use(name: str) -> None:
        for user in USERS:
            monkeypatch.setattr(user, "load_backend", lambda: BACKENDS[name])

    return use


@pytest.fixture(scope="session")
def token_profile() -> Profile:
    return Profile.calibrate([make_tokens(seed, 100) for seed in range(20)])


@pytest.fixture(scope="session")
def grid_profile() -> Profile:
    return Profile.calibrate([make_grid(s, 16, 16, prefix=1) for s in range(20)], grid=(16, 16))


@pytest.fixture(scope="session")
def codebook_profile() -> Profile:
    return Profile.calibrate([make_words(seed, 200) for seed in range(20)])


@pytest.fixture(scope="session")
def rectified_profile() -> Profile:
    return Profile.calibrate([make_one_sided(seed, 20, 16) for seed in range(20)], grid=(20, 16))
