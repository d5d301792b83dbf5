"""What a bitstream has beyond the ideal code length of its symbols, row exponents and raw bits.

python -m featurewire_bench.overhead
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from featurewire_codec import FeatureCodec, Profile
from featurewire_codec.coefficients import Offsets, Side
from featurewire_codec.quantiser import EFFORTS, Effort
from featurewire_codec.span import quantise_values, rounding_for
from featurewire_codec.tables import CLASSES, load_tables
from featurewire_codec.transform import NO_INDEX, Floats, Geometry
from featurewire_codec.universality import Counts, frozen_bits

from featurewire_bench.throughput import CHANNELS, KnownCoefficients, draw, known_profile

SHAPES = ((1, 256), (16, 16), (178, 2))  # tokens, and features of so many
SNRS_DB = (10.0, 15.0, 25.0)


@dataclass(frozen=True)
class Overhead:
    """Bytes beyond the ideal in a session's framing, of features of one shape: mean and most."""

    tokens: int
    effort: str
    snr_db: float
    bytes: float
    mean: float
    most: float


def measure_overhead() -> Iterator[Overhead]:
    """Measure features of 4096 channels at every shape, quality and effort."""
    profile = known_profile()
    transform = profile.transform
    assert isinstance(transform, KnownCoefficients)
    codec = FeatureCodec(profile, framing="session")
    for tokens, many in SHAPES:
        for snr_db in SNRS_DB:
            for effort in EFFORTS:
                rng, sizes, beyond = np.random.default_rng(1), [], []
                for _ in range(many):
                    feature, transform.coefficients = draw(rng, tokens)
                    sizes.append(len(codec.encode(feature, snr_db, effort=effort)))
                    bits = _ideal_bits(profile, transform.coefficients, snr_db, effort)
                    beyond.append(sizes[-1] - bits / 8)
                figures = float(np.mean(sizes)), float(np.mean(beyond)), max(beyond)
                yield Overhead(tokens, effort, snr_db, *figures)


def _ideal_bits(profile: Profile, values: Floats, snr_db: float, effort: Effort) -> float:
    """The code length of what an encoder makes of the coefficients."""
    layout = profile.transform.layout(Geometry.of(values, None), range(len(values)), NO_INDEX)
    assert layout is not None
    side = Side(False, 0, NO_INDEX, NO_INDEX, NO_INDEX)
    step_exponent = profile.step_exponent(snr_db, effort)
    offsets = Offsets(profile.offsets)
    coded = quantise_values([values], layout, offsets, side, step_exponent, rounding_for(effort))
    tables = load_tables()
    counts = Counts(2 * CLASSES if effort == "trellis" else CLASSES)
    counts.add(coded)
    classes = tables.trellis if effort == "trellis" else tables.classes
    return frozen_bits(counts, classes, tables) * values.size


def main() -> None:
    """Print a table."""
    print("| tokens x channels | effort | SNR | bytes | beyond the ideal | at most | part |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for row in measure_overhead():
        print(
            f"| {row.tokens} x {CHANNELS} | {row.effort} | {row.snr_db:g} dB | {row.bytes:.0f} "
            f"| {row.mean:.1f} bytes | {row.most:.1f} | {row.mean / row.bytes:.2%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
