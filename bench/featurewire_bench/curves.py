"""Rate-distortion curves: measured (SNR, bits) pairs in, values between them and BD-rates out.

Between points the logarithm of the rate is a monotone piecewise cubic of the SNR (PCHIP; F. Fritsch
and R. Carlson, SIAM J. Numer. Anal. 1980). A BD-rate is the mean difference of two such curves over
the SNRs that both reach (G. Bjontegaard, VCEG-M33, with PCHIP in place of one cubic).
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Curve = list[tuple[float, float]]  # (SNR in dB, bits a feature point), rising in both
LEAST_OVERLAP_DB = 3.0
_SAMPLES, _HALVINGS = 400, 50


def curve(points: Iterable[tuple[float, float]]) -> Curve:
    """Sort (snr_db, bpfp) pairs, leaving out what another point beats in both."""
    kept: Curve = []
    for snr_db, bits in sorted(points, key=lambda point: (-point[0], point[1])):
        if not kept or (bits < kept[-1][1] and snr_db < kept[-1][0]):
            kept.append((snr_db, bits))
    return kept[::-1]


def bits_at(points: Curve, snr_db: float) -> float | None:
    """The rate at an SNR; None outside the measured range."""
    if len(points) < 2 or not points[0][0] <= snr_db <= points[-1][0]:
        return None
    return float(2 ** _log_rate(points, np.array([snr_db]))[0])


def snr_at(points: Curve, bits: float) -> float | None:
    """The SNR that a rate buys; None outside the measured range."""
    if len(points) < 2 or not points[0][1] <= bits <= points[-1][1]:
        return None
    low, high = points[0][0], points[-1][0]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if float(_log_rate(points, np.array([middle]))[0]) < np.log2(bits):
            low = middle
        else:
            high = middle
    return (low + high) / 2


def bd_rate(points: Curve, anchor: Curve) -> float | None:
    """How many percent more bits than the anchor; None where their SNRs overlap by under 3 dB."""
    if len(points) < 2 or len(anchor) < 2:
        return None
    low, high = max(points[0][0], anchor[0][0]), min(points[-1][0], anchor[-1][0])
    if high - low < LEAST_OVERLAP_DB:
        return None
    snrs = np.linspace(low, high, _SAMPLES)
    difference = float(np.mean(_log_rate(points, snrs) - _log_rate(anchor, snrs)))
    return float(100 * (2**difference - 1))


def _log_rate(points: Curve, snrs: NDArray[np.float64]) -> NDArray[np.float64]:
    x, rates = np.array(points, np.float64).T
    y = np.log2(rates)
    slopes = _slopes(x, y)
    place = np.clip(np.searchsorted(x, snrs, side="right") - 1, 0, len(x) - 2)
    width = x[place + 1] - x[place]
    t = (snrs - x[place]) / width
    rise = (1 + 2 * t) * (1 - t) ** 2 * y[place] + t**2 * (3 - 2 * t) * y[place + 1]
    bend = t * (1 - t) ** 2 * slopes[place] + t**2 * (t - 1) * slopes[place + 1]
    value: NDArray[np.float64] = rise + width * bend
    return value


def _slopes(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Derivatives at the points: weighted harmonic means of the two secants beside each."""
    widths, secants = np.diff(x), np.diff(y) / np.diff(x)
    if len(x) == 2:
        return np.repeat(secants, 2)
    left, right = secants[:-1], secants[1:]
    first, second = 2 * widths[1:] + widths[:-1], widths[1:] + 2 * widths[:-1]
    same = left * right > 0
    inner = np.zeros(len(x) - 2)
    weights = first[same] / left[same] + second[same] / right[same]
    inner[same] = (first[same] + second[same]) / weights
    ends = [_end(widths, secants), _end(widths[::-1], secants[::-1])]
    return np.concatenate([[ends[0]], inner, [ends[1]]])


def _end(widths: NDArray[np.float64], secants: NDArray[np.float64]) -> float:
    """A one-sided derivative that keeps the curve monotone."""
    slope = ((2 * widths[0] + widths[1]) * secants[0] - widths[0] * secants[1]) / widths[:2].sum()
    if slope * secants[0] <= 0:
        return 0.0
    if secants[0] * secants[1] < 0 and abs(slope) > abs(3 * secants[0]):
        return float(3 * secants[0])
    return float(slope)
