"""Profiles that the codec's tests share; tests may import `synthetic_features` beside this file."""

import sys
from pathlib import Path

import pytest
from featurewire_codec import Profile

sys.path.insert(0, str(Path(__file__).parent))
from synthetic_features import make_grid, make_tokens


@pytest.fixture(scope="session")
def token_profile() -> Profile:
    return Profile.calibrate([make_tokens(seed, 100) for seed in range(20)])


@pytest.fixture(scope="session")
def grid_profile() -> Profile:
    return Profile.calibrate([make_grid(s, 16, 16, prefix=1) for s in range(20)], grid=(16, 16))
