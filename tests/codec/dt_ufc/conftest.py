"""Features and a profile that the DT-UFC tests share. The networks are the shipped ones."""

import numpy as np
import pytest
from featurewire_codec.dt_ufc import DtUfcProfile
from synthetic_features import make_grid, make_tokens


@pytest.fixture(scope="session")
def token_profile() -> DtUfcProfile:
    return DtUfcProfile.calibrate([make_tokens(seed, 100) for seed in range(10)])


@pytest.fixture(scope="session")
def latent_profile() -> DtUfcProfile:
    samples = [make_grid(seed, 24, 24, channels=16) for seed in range(10)]
    return DtUfcProfile.calibrate(samples, grid=(24, 24))


@pytest.fixture(scope="session")
def latents() -> np.ndarray:
    return make_grid(99, 24, 24, channels=16)
