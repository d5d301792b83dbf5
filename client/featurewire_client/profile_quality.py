"""How good a set of profiles is: inputs that were left out of fitting in, a row each quality out.

Beside the profiles' bitstreams are self-describing ones of the same error, which need no profile:
what the profiles save.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from featurewire.wire.profiles import ProfileSet
from featurewire_codec import FeatureCodec
from featurewire_codec.codec import MAX_SNR_DB, MIN_SNR_DB
from featurewire_codec.feature import as_array, energy
from featurewire_models import Features, Tail
from torch import Tensor

from featurewire_client.evaluation.agreement import Agreement
from featurewire_client.evaluation.metrics import Metric, finite
from featurewire_client.progress import Begin

QUALITIES_DB = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0)
MOST_LEFT_OUT = 32
FEWEST_INPUTS = 10
_EVERY = 5


def leave_out(inputs: Sequence[Features]) -> tuple[list[Features], list[Features]]:
    """Those to fit on, and those to measure on: every fifth, or 32 evenly from more than 160.

    Of fewer than 10 none is left out.
    """
    every = max(_EVERY, -(-len(inputs) // MOST_LEFT_OUT))
    if len(inputs) < FEWEST_INPUTS:
        return list(inputs), []
    fitted = [one for place, one in enumerate(inputs, start=1) if place % every]
    return fitted, list(inputs[every - 1 :: every])


@dataclass
class Coded:
    """What features came to; `error`: their squared error over the E of their profile."""

    points: int = 0
    coded_bytes: int = 0
    error: float = 0.0

    def add(self, exact: Tensor, decoded: Tensor, coded_bytes: int, energy: float) -> None:
        """Counts one tensor, [tokens, channels]."""
        missed = decoded - exact.float()
        self.error += float((missed**2).sum(dtype=torch.float64)) / energy
        self.coded_bytes += coded_bytes
        self.points += exact.numel()


@dataclass
class Row:
    """One quality: every tensor with its profile and, under the same name, `without` it.

    `metric` is None where no tail was run; it is of all tensors decoded together.
    """

    snr_db: float
    metric: Metric | None
    profiled: dict[str, Coded] = field(default_factory=dict)
    without: dict[str, Coded] = field(default_factory=dict)

    def as_dict(self, names: Collection[str] | None = None) -> dict[str, Any]:
        """For JSON and the table: of the named tensors together, of all by default.

        Bits per feature point are those of the bitstreams, without a session's framing. Both SNRs
        are over the profiles' E, and as good as the same.
        """
        figures: dict[str, Any] = {"snr_db": self.snr_db}
        for suffix, coded in (("", self.profiled), ("_without_profile", self.without)):
            chosen = [one for name, one in coded.items() if names is None or name in names]
            points, error = sum(one.points for one in chosen), sum(one.error for one in chosen)
            figures[f"bpfp{suffix}"] = 8 * sum(one.coded_bytes for one in chosen) / points
            reached = 10 * math.log10(points / error) if error else math.inf
            figures[f"reached_snr_db{suffix}"] = reached
        return figures | {"metrics": self.metric.values() if self.metric else {}}


@dataclass(frozen=True)
class ProfileQuality:
    """`rows` of so many inputs that were left out of `inputs`; none of none."""

    inputs: int
    left_out: int
    rows: list[Row]

    def as_dict(self, names: Collection[str] | None = None) -> dict[str, Any]:
        """For JSON; null for figures that are not finite. `names`: as of `Row.as_dict`."""
        rows = [finite(row.as_dict(names)) for row in self.rows]
        known = {"inputs": self.inputs, "left_out": self.left_out, "rows": rows}
        return known if rows else known | {"because": self.because}

    @property
    def because(self) -> str:
        """Why there are no rows."""
        return (
            f"{self.inputs} inputs are too few to leave any out, so nothing tells how good the "
            f"profile is on others; {FEWEST_INPUTS} or more do."
        )


def measure(
    learned: ProfileSet,
    left_out: Sequence[Features],
    qualities: Sequence[float],
    tail: Tail | None,
    agreement: Agreement,
    begin: Begin,
) -> list[Row]:
    """Codes the inputs at every quality, with and without the profiles, and runs the tail on both.

    The tail runs once for each input's uncoded features and once for each quality, on what was
    decoded with the profiles.

    Args:
        qualities: SNRs in dB.
        begin: called with what is being done, and how often, before each input.

    Raises:
        CodecError: features that cannot be coded.
        ModelError: the tail does not take the features.
    """
    rows = [Row(snr_db, agreement.metric() if tail else None) for snr_db in qualities]
    codecs = {name: FeatureCodec(profile) for name, profile in learned.profiles.items()}
    for features in left_out:
        begin("inputs left out", len(left_out))
        exact = agreement.answer(_run(tail, features)) if tail else None
        for row in rows:
            decoded = {name: _coded(row, codecs[name], name, features) for name in codecs}
            if tail and row.metric:
                again = Features(decoded, features.grids, features.uncoded)
                row.metric.add(agreement.answer(_run(tail, again)), agreement.truth(exact))
    return rows


def _run(tail: Tail, features: Features) -> Any:
    with torch.inference_mode():
        return tail(features)


def _coded(row: Row, codec: FeatureCodec, name: str, features: Features) -> Tensor:
    """The tensor as the profile decodes it, float32 [batch, tokens, channels]; counts both."""
    assert codec.profile is not None
    grid, scale, bare = features.grids.get(name), codec.profile.energy, FeatureCodec()
    profiled, without = (each.setdefault(name, Coded()) for each in (row.profiled, row.without))
    rows = []
    for sample in features.tensors[name]:
        data = codec.encode(sample, row.snr_db, grid)
        rows.append(codec.decode(data))
        profiled.add(sample, rows[-1], len(data), scale)
        # of the same error: without a profile the SNR is over the E of this very tensor
        snr_db = row.snr_db + 10 * math.log10(energy(as_array(sample)) / scale)
        data = bare.encode(sample, min(max(snr_db, MIN_SNR_DB), MAX_SNR_DB), grid)
        without.add(sample, bare.decode(data), len(data), scale)
    return torch.stack(rows)
