"""featurewire's codec as the benchmark's coders: with a profile, a trellis, neither."""

from collections.abc import Callable
from dataclasses import dataclass

from featurewire_codec import FeatureCodec
from featurewire_codec.quantiser import Effort

from featurewire_bench.baselines import Coder, Method, Shape
from featurewire_bench.sources import Array, Grid, Part

OURS, TRELLIS, PLAIN = "featurewire", "featurewire trellis", "featurewire, no profile"


@dataclass(frozen=True)
class Ours:
    """featurewire's codec as a coder of this benchmark."""

    codec: FeatureCodec
    snr_db: float
    grid: Grid | None
    effort: Effort

    def encode(self, feature: Array) -> bytes:
        """float32 [tokens, channels] to a bitstream."""
        return self.codec.encode(feature, self.snr_db, self.grid, self.effort)

    def decode(self, data: bytes, shape: Shape) -> Array:
        """The inverse of `encode`."""
        decoded: Array = self.codec.decode(data).numpy()
        return decoded


def ours() -> list[Method]:
    """With a profile, with a profile and the trellis, and without a profile."""

    def fit(effort: Effort, profiled: bool) -> Callable[[Part, float], Coder]:
        def coder(part: Part, snr_db: float) -> Coder:
            codec = FeatureCodec(part.shipped if profiled else None)
            return Ours(codec, snr_db, part.test_grid, effort)

        return coder

    return [
        Method(OURS, fit("fast", True)),
        Method(TRELLIS, fit("trellis", True)),
        Method(PLAIN, fit("fast", False)),
    ]
