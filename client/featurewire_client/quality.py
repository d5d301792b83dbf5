"""The quality that holds a budget: a link, stages and a rate curve in, an SNR for each request out.

The curve is the profile's own at first, and what was coded since. Quality falls at once when the
budget asks for it, and rises when two decibels or more are to be had. Amid a request, whose spans
or parts are asked for one by one, it never rises above the first, and stays where it is while that
fits into the budget with next to no margin.
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
_TIGHT = 0.9  # of that time: what a quality that was chosen may need before it has to fall
_SIZE_MARGIN = 0.9
_FRAMING = 48  # bytes of a small request beside its payload, until one was sent
_RISE_DB = 2.0  # less is within what a link's rate is known to
_MOST_RISE_DB = 8.0  # at once: an estimate from few bytes may be too good
_AHEAD = 0.02  # of the time allowed: what may be under way when a quality is chosen
_SAFE = 0.9  # of the time allowed: a request that took as long says that no more can be sent
_ABOUT = 1.02  # of the bytes of one that held its time: the least quality holds it too
_FALLEN = 0.4  # of a link's rate: what was held before says nothing any more


@dataclass(frozen=True)
class _Before:
    """The request before: what it sent and took, and what its first quality was chosen by."""

    points: int
    request_bytes: int
    took_s: float
    spent_s: float
    rate: float
    choices: int


class QualityControl:
    """Chooses the SNR of one request after the other.

    Attributes:
        snr_db: the last choice.
        shortfall_ms, shortfall_bytes: what the request before takes beyond the budget even at the
            lowest quality, as far as can be told; 0 where the budget can be held, or was.
        missed_ms, missed_bytes: what it took beyond the budget in the end.
    """

    def __init__(
        self, budget: Budget, snr_db: float, link: LinkEstimate, known: dict[float, float]
    ) -> None:
        self._budget = budget
        self._link = link
        self._curve = RateCurve(known)
        self._others_s: deque[float] = deque(maxlen=3)  # stages but for head and wire
        self._answer_bytes: deque[int] = deque(maxlen=3)
        self._framing = _FRAMING
        self._chosen: tuple[int, float, float] | None = None  # points, seconds spent, link's rate
        self._request_bytes = 0
        self._choices = 0
        self._before: _Before | None = None
        self.snr_db = min(max(snr_db, budget.least_snr_db), budget.most_snr_db)
        self.shortfall_ms = self.missed_ms = 0.0
        self.shortfall_bytes = self.missed_bytes = 0

    @property
    def least_snr_db(self) -> float:
        """The lowest quality that may be chosen."""
        return self._budget.least_snr_db

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
        budget, amid = self._budget, bool(sent_bytes or waiting_bytes)
        if not amid:
            self._choices, self._request_bytes, self._chosen = 0, 0, None
        self._choices += 1
        self.shortfall_ms, self.shortfall_bytes = 0.0, 0
        least = self._bytes_of(points, budget.least_snr_db)
        allowed = tight = math.inf  # bytes, with a margin and with next to none
        if budget.request_bytes is not None:
            before = sent_bytes + waiting_bytes
            tight = budget.request_bytes - before
            allowed = _SIZE_MARGIN * budget.request_bytes - before
            self.shortfall_bytes = max(0, math.ceil(least - tight))
        rate, trip = self._link.bytes_per_s, self._link.round_trip_s
        if budget.latency_ms is not None and rate and trip is not None:
            answer_s = median(self._answer_bytes or [0]) / rate  # down as fast as up
            others_s = median(self._others_s or [0.0])
            left_s = budget.latency_ms / 1000 - spent_s - others_s - answer_s - trip
            before = under_way_bytes + waiting_bytes
            in_time = _MARGIN * rate * left_s - before
            self.shortfall_ms = max(0.0, 1000 * ((before + least) / rate - left_s))
            if not amid:
                self._chosen = points, spent_s, rate
                in_time = self._as_before(in_time, least)
            allowed = min(allowed, in_time)
            tight = min(tight, _TIGHT * rate * left_s - before)
        if allowed == math.inf:
            return self.snr_db
        if not amid or self._bytes_of(points, self.snr_db) > tight:
            self._change(points, allowed, amid)
        return self.snr_db

    def _bytes_of(self, points: int, snr_db: float) -> float:
        return self._framing + points * self._curve.bits(snr_db) / 8

    def _change(self, points: int, allowed: float, amid: bool) -> None:
        """Chooses what so many bytes allow; with hysteresis, and downwards alone amid a request."""
        budget = self._budget
        bits = 8 * max(allowed - self._framing, 0) / points
        wanted = self._curve.snr_db(bits, budget.least_snr_db, budget.most_snr_db)
        if wanted < self.snr_db:
            self.snr_db = wanted
        elif wanted - self.snr_db >= _RISE_DB and not amid:
            self.snr_db = min(wanted, self.snr_db + _MOST_RISE_DB)

    def _as_before(self, in_time: float, least: float) -> float:
        """Bytes that a request may send in time, by what the one before it took, if it is alike.

        Of one that went whole and held its time: as many and more, where a few bytes tell a link's
        rate too low. Of one in spans or parts: no more than that, since the wire waits between
        them for what no estimate has seen.
        """
        before, latency_ms = self._before, self._budget.latency_ms
        assert self._chosen is not None
        assert latency_ms is not None
        points, spent_s, rate = self._chosen
        if before is None or before.points != points or rate < _FALLEN * before.rate:
            return in_time
        held, in_turns = 1000 * before.took_s <= latency_ms, before.choices > 1
        if held and least <= _ABOUT * before.request_bytes:
            self.shortfall_ms = 0.0
        if in_turns:
            rate = min(rate, before.request_bytes / before.took_s)
        spare_s = _SAFE * latency_ms / 1000 - before.took_s - (spent_s - before.spent_s)
        alike = before.request_bytes + rate * spare_s * (_MARGIN if spare_s > 0 else 1)
        if in_turns:
            return min(in_time, alike)
        return max(in_time, alike) if held else in_time

    def ended(self, took_ms: float) -> None:
        """Takes in how long the last request took, and what of it was beyond the budget."""
        latency_ms, request_bytes = self._budget.latency_ms, self._budget.request_bytes
        self.missed_ms = max(0.0, took_ms - latency_ms) if latency_ms else 0.0
        self.missed_bytes = max(0, self._request_bytes - request_bytes) if request_bytes else 0
        # what was held could be held
        self.shortfall_ms = min(self.shortfall_ms, self.missed_ms)
        self.shortfall_bytes = min(self.shortfall_bytes, self.missed_bytes)
        self._before = None
        if self._chosen is not None and self._request_bytes:
            points, spent_s, rate = self._chosen
            self._before = _Before(
                points, self._request_bytes, took_ms / 1000, spent_s, rate, self._choices
            )

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
        if len(points) > 1:  # the next request begins where all of this one was, not its last span
            bits = 8 * payload_bytes.total() / points.total()
            least, most = self._budget.least_snr_db, self._budget.most_snr_db
            self.snr_db = self._curve.snr_db(bits, least, most)
        self._answer_bytes.append(answer_bytes)
        self._others_s.append(other_s)

    def beside_wire_s(self, waited_s: float, answer_bytes: int) -> float:
        """Of the wait for an answer, what neither its bytes nor the round trip took."""
        rate, trip = self._link.bytes_per_s, self._link.round_trip_s
        return max(0.0, waited_s - answer_bytes / rate - trip) if rate and trip else waited_s
