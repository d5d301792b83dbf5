"""The published DT-UFC method as a baseline, clean-room; see `featurewire_codec.dt_ufc`.

Its quality knob has one place for each trained network. Centres are learned from a part's own
calibration samples; the networks are the hybrid ones that ship, and those of a folder for one
task.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from featurewire_codec.dt_ufc import DtUfcCodec, DtUfcProfile
from featurewire_codec.dt_ufc.kmeans import Form
from featurewire_codec.dt_ufc.quality import choose

from featurewire_bench.sources import Array, Grid, Part

from . import DT_UFC_NAMES
from .coder import Coder, Method, Shape

NEAREST, PUBLISHED, TASK_SPECIFIC = DT_UFC_NAMES
TRUNCATED = (0.0005, 0.9995)  # the share of a token feature's values that its levels span
SAMPLES = 24  # to learn centres from; the paper takes ten


@dataclass(frozen=True)
class DtUfc:
    """The codec at one network."""

    codec: DtUfcCodec
    snr_db: float
    grid: Grid | None

    def encode(self, feature: Array) -> bytes:
        """float32 [tokens, channels] to a stream."""
        return self.codec.encode(feature, self.snr_db, self.grid)

    def decode(self, data: bytes, shape: Shape) -> Array:
        """The inverse of `encode`."""
        decoded: Array = self.codec.decode(data).numpy()
        return decoded


def dt_ufc_methods(networks: Path | None = None) -> list[Method]:
    """The hybrid in both forms of k-means, and networks of a folder with evenly spaced centres.

    The last are the paper's task-specific baselines, which truncate and normalise linearly.
    """
    methods = [
        _method(NEAREST, _hybrid, "nearest", None),
        _method(PUBLISHED, _hybrid, "published", None),
    ]
    if networks:
        profile = partial(_even, networks=networks)
        methods.append(_method(TASK_SPECIFIC, profile, "nearest", networks))
    return methods


def _method(
    name: str, profile: Callable[[Part], DtUfcProfile], form: Form, networks: Path | None
) -> Method:
    def fit(part: Part, snr_db: float) -> Coder:
        return DtUfc(DtUfcCodec(profile(part), form, networks), snr_db, part.test_grid)

    def settings(part: Part) -> Sequence[float]:
        reached = profile(part).snrs_db  # a network is never chosen where a cheaper one is better
        return [snr for network, snr in enumerate(reached) if choose(reached, snr) == network]

    return Method(name, fit, settings=settings)


@lru_cache(maxsize=16)
def _hybrid(part: Part) -> DtUfcProfile:
    return DtUfcProfile.calibrate(_some(part), part.grid)


@lru_cache(maxsize=16)
def _even(part: Part, networks: Path) -> DtUfcProfile:
    samples = _some(part)
    ends = (0.0, 1.0) if part.grid else TRUNCATED
    low, high = np.quantile(np.concatenate(samples), ends)
    centres = np.linspace(low, high, 256, dtype=np.float32)
    return DtUfcProfile.calibrate(samples, part.grid, networks, centres)


def _some(part: Part) -> Sequence[Array]:
    return part.calibration[:: max(1, len(part.calibration) // SAMPLES)][:SAMPLES]
