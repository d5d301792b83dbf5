"""Rate and round trip of a link, from when chunks were sent, read over there and acknowledged."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

_LEAST_S = 1e-4  # below this, what is measured is the scheduler
_KEPT_ROUND_TRIPS = 16
_KEPT_WAITS = 256
_PACKET_BYTES = 1500  # what comes in one packet comes at once


class Acknowledged(NamedTuple):
    """A chunk's bytes, and when it was sent, read over there (by that clock) and acknowledged.

    late: it may have waited there before it was read. followed: others are on their way still,
    and will tell more.
    """

    size: int
    sent_s: float
    read_s: float
    answered_s: float
    late: bool = False
    followed: bool = False

    @property
    def trip_s(self) -> float:
        """From its sending to its acknowledgement."""
        return self.answered_s - self.sent_s


class LinkEstimate:
    """What the acknowledgements of one session after the other say of its link.

    Chunks that are sent while others are still on their way tell the rate, by when they are read.
    After a pause a run of them begins anew: pauses tell how long head and encoder took. Where none
    of a request's runs is longer than what travels as one packet, the quickest trip tells the rate,
    with all that else took time in it. A request's first chunk tells the round trip, once a run
    has told the rate.
    """

    def __init__(self) -> None:
        self._rates: deque[float] = deque(maxlen=2)  # of the last request, and of this one
        self._trips: deque[float] = deque(maxlen=_KEPT_ROUND_TRIPS)
        self._changed = asyncio.Event()
        self.begin()

    @property
    def bytes_per_s(self) -> float | None:
        """The lower of the last two requests' rates: few bytes tell it by some tenths only."""
        return min(self._rates, default=None)

    @property
    def round_trip_s(self) -> float | None:
        """The least of the last requests'; None while nothing is known."""
        return min(self._trips, default=None)

    async def settle(self, allowed_bytes: float, unanswered_bytes: Callable[[], int]) -> None:
        """Waits until no more than so many bytes are under way or about to be sent."""
        while unanswered_bytes() > allowed_bytes:
            self._changed.clear()
            await self._changed.wait()

    def changed(self) -> None:
        """Less is under way: an answer has come, or a session is over."""
        self._changed.set()

    def know(self, bytes_per_s: float, round_trip_s: float) -> None:
        """Takes what was found out before any request."""
        self._rates.append(bytes_per_s)
        self._trips.append(round_trip_s)

    def begin(self) -> None:
        """A new request, or a new session for it: its chunks are measured by themselves."""
        self._told = False  # whether the last of the rates is this request's
        self._first_trip: tuple[int, float] | None = None  # bytes, seconds
        self._before: Acknowledged | None = None
        self._run_start: Acknowledged | None = None
        self._run = 0, 0.0  # bytes and seconds behind its start
        self._waits: deque[tuple[int, float]] = deque(maxlen=_KEPT_WAITS)  # of runs long enough
        self._by_trips = 0.0

    def acknowledged(self, chunk: Acknowledged) -> None:
        """A chunk has come over there."""
        before, self._before = self._before, chunk
        if self._first_trip is None:
            self._first_trip = chunk.size, chunk.trip_s
        if chunk.late:
            self._run_start = None
            return
        trip_s = self.round_trip_s or self._first_trip[1]
        if before is None or self._run_start is None or chunk.sent_s > before.answered_s - trip_s:
            self._run_start, self._run = chunk, (0, 0.0)
            self._learn_trip(chunk)
            return
        waited, took_s = chunk.size, chunk.read_s - before.read_s
        size, seconds = self._run
        self._run = size + waited, seconds + took_s
        if self._run[0] < _PACKET_BYTES:
            self._learn_trip(chunk)
            return
        self._waits.append((waited, took_s) if size >= _PACKET_BYTES else self._run)
        self._learn_run()

    def _learn_run(self) -> None:
        """The later half of the bytes tells: a rate that has changed shows there."""
        size, seconds, half = 0, 0.0, sum(size for size, _ in self._waits) / 2
        for one, took_s in reversed(self._waits):
            size, seconds = size + one, seconds + took_s
            if size >= half:
                break
        rate = size / max(seconds, _LEAST_S)
        self._tell(rate)
        if len(self._waits) == 1:  # later the rate may be another one
            assert self._first_trip is not None
            first, trip_s = self._first_trip
            self._trips.append(max(trip_s - first / rate, _LEAST_S))

    def _learn_trip(self, last: Acknowledged) -> None:
        """From the run's start, less the round trip, which is known to an eighth of it at best."""
        if self._waits or self.round_trip_s is None or self._run_start is None:
            return
        trip_s = last.answered_s - self._run_start.sent_s
        spent_s = max(trip_s - self.round_trip_s, trip_s / 8, _LEAST_S)
        self._by_trips = max(self._by_trips, (self._run_start.size + self._run[0]) / spent_s)
        if not last.followed:
            self._tell(self._by_trips)

    def _tell(self, rate: float) -> None:
        """A request has one rate, the latest."""
        if self._told:
            self._rates[-1] = rate
        else:
            self._rates.append(rate)
            self._told = True
