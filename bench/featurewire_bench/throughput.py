"""How fast the codec is: shapes in, figures out.

The product with a profile's matrix is left out: it is the transform's, and a device's own. The
coefficients are Laplacian with uneven scales, as after a KLT; the profile's offsets are theirs.

    python -m featurewire_bench.throughput
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from featurewire_codec import FeatureCodec, Profile
from featurewire_codec.backend import load_backend
from featurewire_codec.quantiser import EFFORTS, Effort
from featurewire_codec.transform import NO_INDEX, ChannelKlt, Floats, Geometry, Index

CHANNELS = 4096
TOKENS = (1, 16, 178)
SNR_DB = 15.0
_LEAST_SECONDS = 0.3  # of each measurement; its fastest pass counts


@dataclass(frozen=True)
class Throughput:
    """One shape, effort and set of loops.

    Microseconds of processor time for a whole encode and decode, in a session's framing, and
    millions of features a second.
    """

    tokens: int
    channels: int
    effort: str
    loops: str
    bpfp: float
    encode_us: float
    decode_us: float
    encode_mfeatures_s: float
    decode_mfeatures_s: float


class KnownCoefficients(ChannelKlt):
    """A KLT whose product has been made before the clock starts."""

    def __init__(self, mean: Floats) -> None:
        super().__init__(mean, np.eye(1, dtype=np.float32))
        self.coefficients = np.zeros((0, len(mean)), np.float32)

    def forward(
        self, feature: Floats, geometry: Geometry, span: range, index: Index = NO_INDEX
    ) -> list[Floats]:
        """Return the span's coefficients."""
        return [self.coefficients[span.start : span.stop]]

    def inverse(
        self, coefficients: list[Floats], geometry: Geometry, span: range, index: Index = NO_INDEX
    ) -> Floats:
        """Return the coefficients as they are."""
        return coefficients[0]


def measure_throughput() -> Iterator[Throughput]:
    """Measure every shape and effort, in this process and with the loops that it has."""
    rng, profile = np.random.default_rng(0), known_profile()
    transform = profile.transform
    assert isinstance(transform, KnownCoefficients)
    codec = FeatureCodec(profile, framing="session")
    for tokens in TOKENS:
        feature, transform.coefficients = draw(rng, tokens)
        for effort in EFFORTS:
            yield _measure(codec, feature, effort)


def draw(rng: np.random.Generator, tokens: int) -> tuple[npt.NDArray[np.float16], Floats]:
    """Draw a feature [tokens, 4096] and what is to be its coefficients."""
    values = rng.laplace(0.0, 1.0, (tokens, CHANNELS)) * _scales()
    coefficients = (values * np.exp(rng.normal(0, 0.2, (tokens, 1)))).astype(np.float32)
    spread = float(coefficients.std()) * 1.4
    return (rng.normal(size=(tokens, CHANNELS)) * spread).astype(np.float16), coefficients


def _scales() -> Floats:
    scales = np.sort(np.exp(np.random.default_rng(0).normal(0.0, 1.2, CHANNELS)))
    return scales.astype(np.float32)


def _measure(codec: FeatureCodec, feature: npt.NDArray[np.float16], effort: Effort) -> Throughput:
    shape = feature.shape[0], feature.shape[1]
    data = codec.encode(feature, SNR_DB, effort=effort)
    codec.decode(data, shape=shape)  # imports, not timed
    encode_s = _fastest(lambda: codec.encode(feature, SNR_DB, effort=effort))
    decode_s = _fastest(lambda: codec.decode(data, shape=shape))
    return Throughput(
        tokens=shape[0],
        channels=shape[1],
        effort=effort,
        loops=load_backend().name,
        bpfp=8 * len(data) / feature.size,
        encode_us=1e6 * encode_s,
        decode_us=1e6 * decode_s,
        encode_mfeatures_s=feature.size / encode_s / 1e6,
        decode_mfeatures_s=feature.size / decode_s / 1e6,
    )


def known_profile() -> Profile:
    """A profile of columns of known scales, its SNRs by the high-rate formula."""
    scales = _scales()
    offsets = np.rint(4.0 * np.log2(scales)).astype(np.int32) + 48
    energy = float(np.mean(2.0 * scales.astype(np.float64) ** 2))
    steps = np.arange(128, -257, -16, dtype=np.int32)
    snr_db = 10.0 * np.log10(12.0 * energy) - 20.0 * np.log10(2.0) * steps / 32
    transform = KnownCoefficients(np.zeros(len(scales), np.float32))
    return Profile(transform, energy, offsets, steps, snr_db, {}, trellis_snr_db=snr_db - 1.5)


def _fastest(work: Callable[[], object]) -> float:
    """Return the least processor time of one call, over some tenths of a second of them."""
    least, started = float("inf"), time.perf_counter()
    while time.perf_counter() - started < _LEAST_SECONDS:
        before = time.process_time_ns()
        work()
        least = min(least, (time.process_time_ns() - before) / 1e9)
    return least


def main() -> None:
    """Print a table."""
    print("| tokens x channels | effort | encode, us | M features/s | decode, us | M features/s |")
    print("|---|---|---:|---:|---:|---:|")
    for row in measure_throughput():
        print(
            f"| {row.tokens} x {row.channels} | {row.effort} "
            f"| {row.encode_us:.0f} | {row.encode_mfeatures_s:.0f} "
            f"| {row.decode_us:.0f} | {row.decode_mfeatures_s:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
