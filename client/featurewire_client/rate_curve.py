"""Bits that a feature takes at a quality: what calibration measured, and what was coded since."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from featurewire_codec import Profile

_DB_A_BIT = 6.02
_STEP_DB = 0.5
_UNSEEN = 0.04  # more bits than thought, for each dB from what was seen: features differ in it


@dataclass(frozen=True)
class Coded:
    """What feature points came to at a quality, in dB: bytes of payload."""

    snr_db: float
    points: int
    payload_bytes: int


class RateCurve:
    """Bits a feature point by SNR: a known curve, corrected where something was coded since."""

    def __init__(self, known: dict[float, float]) -> None:
        """`known`: bits by SNR; without any, a bit for 10 dB and one more each 6 dB."""
        self._known = sorted((known or {10.0: 1.0, 22.0: 3.0}).items())
        self._ratios: dict[float, float] = {}  # logarithms of what came, over the known

    def see(self, snr_db: float, bits: float) -> None:
        """Takes in what a feature came to."""
        near = [snr for snr in self._ratios if abs(snr - snr_db) < _STEP_DB]
        for snr in near:
            del self._ratios[snr]
        self._ratios[snr_db] = math.log(max(bits, 1e-4) / self._prior(snr_db))

    def bits(self, snr_db: float) -> float:
        """Bits a feature point at that SNR."""
        seen = sorted(self._ratios)
        if not seen:
            return self._prior(snr_db)
        ratio = float(np.interp(snr_db, seen, [self._ratios[snr] for snr in seen]))
        far_db = min(abs(snr_db - one) for one in seen)
        return self._prior(snr_db) * math.exp(ratio) * (1 + _UNSEEN * far_db)

    def _prior(self, snr_db: float) -> float:
        """Straight lines in the logarithm; 6 dB a bit above, halved each 4 dB below."""
        (least, low), (most, high) = self._known[0], self._known[-1]
        if snr_db > most:
            return high + (snr_db - most) / _DB_A_BIT
        if snr_db < least:
            return float(low * 2 ** ((snr_db - least) / 4))
        snrs, bits = zip(*self._known, strict=True)
        return math.exp(float(np.interp(snr_db, snrs, np.log(bits))))

    def snr_db(self, bits: float, least: float, most: float) -> float:
        """The highest SNR of so many bits, between the two."""
        if self.bits(least) >= bits:
            return least
        while most - least > 0.01:
            middle = (least + most) / 2
            least, most = (middle, most) if self.bits(middle) <= bits else (least, middle)
        return least


def known_rates(profiles: Iterable[Profile]) -> dict[float, float]:
    """Bits a feature point by SNR, as calibration measured them: the mean over the profiles."""
    rates: dict[float, list[float]] = {}
    for profile in profiles:
        by_mode = profile.report.get("bpfp_by_mode_and_snr_db", {})
        for snr_db, bits in by_mode.get(profile.report.get("kept"), {}).items():
            rates.setdefault(float(snr_db), []).append(float(bits))
    return {snr_db: sum(bits) / len(bits) for snr_db, bits in rates.items()}
