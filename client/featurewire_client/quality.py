"""The quality that holds a budget: a link, stages and a rate curve in, an SNR for each request out.

The curve is the profile's own at first, and what was coded since. Quality falls at once when the
budget asks for it, and rises when two decibels or more are to be had.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

import numpy as np
from featurewire_codec import Profile

from featurewire_client.errors import SettingError
from featurewire_client.link_estimate import LinkEstimate

# Pieces that tell rate and round trip apart: a small one first, and enough behind it.
PROBING_BYTES = (256, 4096, 8192)
_DB_A_BIT = 6.02
_MARGIN = 0.75  # of the time that is left for the wire
_SIZE_MARGIN = 0.9
_RISE_DB = 2.0  # less is within what a link's rate is known to
_MOST_RISE_DB = 8.0  # at once: an estimate from few bytes may be too good
_STEP_DB = 0.5
_UNSEEN = 0.04  # more bits than thought, for each dB from what was seen: features differ in it
_AHEAD = 0.02  # of the time allowed: what may be under way when a quality is chosen
_SAFE = 0.9  # of the time allowed: a request that took as long says that no more can be sent
_ABOUT = 1.02  # of the bytes of one that held its time: the least quality holds it too
_FALLEN = 0.4  # of a link's rate: what was held before says nothing any more


@dataclass(frozen=True)
class Budget:
    """What a request may take.

    Attributes:
        latency_ms: from the call to its answer; of a generation, to its first token.
        request_bytes: aimed at for a request's, or a text's prompt's, bytes as sent; the first
            requests teach how much that is.
        least_snr_db, most_snr_db: the qualities to choose from, in dB.

    Raises:
        SettingError: a bound allows nothing or is infinite, or the least quality is above the most.
    """

    latency_ms: float | None = None
    request_bytes: int | None = None
    least_snr_db: float = 5.0
    most_snr_db: float = 30.0

    def __post_init__(self) -> None:
        if self.latency_ms is not None and not 0 < self.latency_ms < math.inf:
            found = f"{self.latency_ms:g} ms"
            raise SettingError(f"a budget's latency is {found}; a finite one above 0 is allowed")
        if self.request_bytes is not None and not 1 <= self.request_bytes < math.inf:
            found = f"{self.request_bytes} bytes"
            raise SettingError(f"a budget's size is {found}; a finite one from 1 on is allowed")
        if not self.least_snr_db <= self.most_snr_db:
            found = f"{self.least_snr_db:g} dB, and the most {self.most_snr_db:g} dB"
            raise SettingError(f"a budget's least quality is {found}; the least must not be above")


@dataclass(frozen=True)
class Coded:
    """What feature points came to at a quality, in dB: bytes of payload."""

    snr_db: float
    points: int
    payload_bytes: int


@dataclass(frozen=True)
class _Held:
    """A request that held its time: what it sent and took, and what its quality was chosen by."""

    points: int
    request_bytes: int
    took_s: float
    spent_s: float
    rate: float


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


class QualityControl:
    """Chooses the SNR of one request after the other.

    Attributes:
        snr_db: the last choice.
        shortfall_ms, shortfall_bytes: what the request before takes beyond the budget even at the
            lowest quality, as far as can be told; 0 where the budget can be held.
    """

    def __init__(
        self, budget: Budget, snr_db: float, link: LinkEstimate, known: dict[float, float]
    ) -> None:
        self._budget = budget
        self._link = link
        self._curve = RateCurve(known)
        self._others_s: deque[float] = deque(maxlen=3)  # stages but for head and wire
        self._answer_bytes: deque[int] = deque(maxlen=3)
        self._framing = 0
        self._chosen: tuple[int, float, float] | None = None  # points, seconds spent, link's rate
        self._request_bytes = 0
        self._held: _Held | None = None
        self.snr_db = min(max(snr_db, budget.least_snr_db), budget.most_snr_db)
        self.shortfall_ms = 0.0
        self.shortfall_bytes = 0

    async def settle(self, unanswered_bytes: Callable[[], int]) -> None:
        """Waits until the link has told enough of what is coded already for the next choice.

        Else all of a request would be coded before the link's first answer. `unanswered_bytes`:
        coded, and not sent yet or not answered.
        """
        rate, trip = self._link.bytes_per_s, self._link.round_trip_s
        if self._budget.latency_ms is not None and rate and trip is not None:
            await self._link.settle(
                rate * (trip + _AHEAD * self._budget.latency_ms / 1000), unanswered_bytes
            )

    def choose(
        self,
        points: int,
        spent_s: float,
        sent_bytes: int = 0,
        waiting_bytes: int = 0,
        under_way_bytes: int = 0,
    ) -> float:
        """The SNR for feature points that are to be sent, so long after the call.

        `sent_bytes`: what has been sent of the request already; `under_way_bytes`: of them, those
        that are not answered; `waiting_bytes`: coded, and not sent yet.
        """
        budget = self._budget
        allowed = math.inf
        self.shortfall_ms, self.shortfall_bytes = 0.0, 0
        least = self._framing + points * self._curve.bits(budget.least_snr_db) / 8
        if budget.request_bytes is not None:
            before = sent_bytes + waiting_bytes
            allowed = _SIZE_MARGIN * budget.request_bytes - before
            self.shortfall_bytes = max(0, math.ceil(before + least - budget.request_bytes))
        rate, trip = self._link.bytes_per_s, self._link.round_trip_s
        if budget.latency_ms is not None and rate and trip is not None:
            answer_s = median(self._answer_bytes or [0]) / rate  # down as fast as up
            others_s = median(self._others_s or [0.0])
            left_s = budget.latency_ms / 1000 - spent_s - others_s - answer_s - trip
            before = under_way_bytes + waiting_bytes
            in_time = _MARGIN * rate * left_s - before
            self.shortfall_ms = max(0.0, 1000 * ((before + least) / rate - left_s))
            if not (sent_bytes or waiting_bytes):
                self._chosen = points, spent_s, rate
                if held := self._held_alike(points, rate):
                    spare_s = _SAFE * budget.latency_ms / 1000 - held.took_s
                    spare_s -= spent_s - held.spent_s
                    spare_bytes = rate * (_MARGIN * spare_s if spare_s > 0 else spare_s)
                    in_time = max(in_time, held.request_bytes + spare_bytes)
                    if least <= _ABOUT * held.request_bytes:
                        self.shortfall_ms = 0.0
            allowed = min(allowed, in_time)
        if allowed == math.inf:
            return self.snr_db
        bits = 8 * max(allowed - self._framing, 0) / points
        wanted = self._curve.snr_db(bits, budget.least_snr_db, budget.most_snr_db)
        if wanted < self.snr_db:
            self.snr_db = wanted
        elif wanted - self.snr_db >= _RISE_DB:
            self.snr_db = min(wanted, self.snr_db + _MOST_RISE_DB)
        return self.snr_db

    def _held_alike(self, points: int, rate: float) -> _Held | None:
        """The request before, if it held its time with so many points over such a link.

        A few bytes tell a link's rate too low: what they did take says more.
        """
        held = self._held
        return held if held and held.points == points and rate >= _FALLEN * held.rate else None

    def ended(self, took_ms: float) -> float:
        """Takes in how long the last request took; the milliseconds beyond the budget, or 0."""
        latency_ms = self._budget.latency_ms
        if latency_ms is None:
            return 0.0
        self._held = None
        if took_ms <= latency_ms and self._chosen is not None and self._request_bytes:
            points, spent_s, rate = self._chosen
            self._held = _Held(points, self._request_bytes, took_ms / 1000, spent_s, rate)
        return max(0.0, took_ms - latency_ms)

    def learn(
        self, coded: Iterable[Coded], request_bytes: int, answer_bytes: int, other_s: float
    ) -> None:
        """Takes in what a request came to, at each quality that parts of it had.

        `request_bytes`: all of it, once; `other_s`: its stages but for head and wire.
        """
        points, payload_bytes = Counter[float](), Counter[float]()
        for part in coded:
            points[part.snr_db] += part.points
            payload_bytes[part.snr_db] += part.payload_bytes
        if not points.total() or not payload_bytes.total():
            return
        for snr_db, size in payload_bytes.items():
            self._curve.see(snr_db, 8 * size / points[snr_db])
        self._request_bytes = request_bytes
        self._framing = request_bytes - payload_bytes.total()
        self._answer_bytes.append(answer_bytes)
        self._others_s.append(other_s)

    def beside_wire_s(self, waited_s: float, answer_bytes: int) -> float:
        """Of the wait for an answer, what neither its bytes nor the round trip took."""
        rate, trip = self._link.bytes_per_s, self._link.round_trip_s
        return max(0.0, waited_s - answer_bytes / rate - trip) if rate and trip else waited_s


def known_rates(profiles: Iterable[Profile]) -> dict[float, float]:
    """Bits a feature point by SNR, as calibration measured them: the mean over the profiles."""
    rates: dict[float, list[float]] = {}
    for profile in profiles:
        by_mode = profile.report.get("bpfp_by_mode_and_snr_db", {})
        for snr_db, bits in by_mode.get(profile.report.get("kept"), {}).items():
            rates.setdefault(float(snr_db), []).append(float(bits))
    return {snr_db: sum(bits) / len(bits) for snr_db, bits in rates.items()}
