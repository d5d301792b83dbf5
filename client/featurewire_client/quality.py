"""The quality that holds a budget: a link, stages and a rate curve in, an SNR for each request out.

The curve is the profile's own at first, and what was coded since. Quality falls at once when the
budget asks for it, and rises when two decibels or more are to be had.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from featurewire_client.budget import Budget
from featurewire_client.link_estimate import LinkEstimate
from featurewire_client.rate_curve import Coded, RateCurve

# Pieces that tell rate and round trip apart: a small one first, and enough behind it.
PROBING_BYTES = (256, 4096, 8192)
_MARGIN = 0.75  # of the time that is left for the wire
_SIZE_MARGIN = 0.9
_RISE_DB = 2.0  # less is within what a link's rate is known to
_MOST_RISE_DB = 8.0  # at once: an estimate from few bytes may be too good
_AHEAD = 0.02  # of the time allowed: what may be under way when a quality is chosen
_SAFE = 0.9  # of the time allowed: a request that took as long says that no more can be sent
_ABOUT = 1.02  # of the bytes of one that held its time: the least quality holds it too
_FALLEN = 0.4  # of a link's rate: what was held before says nothing any more


@dataclass(frozen=True)
class _Held:
    """A request that held its time: what it sent and took, and what its quality was chosen by."""

    points: int
    request_bytes: int
    took_s: float
    spent_s: float
    rate: float


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
