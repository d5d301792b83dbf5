"""Rate and round trip of a link, from when chunks were sent, read over there and acknowledged."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from featurewire_client.window import Window

_LEAST_S = 1e-4  # below this, what is measured is the scheduler
_KEPT_ROUND_TRIPS = 16


class LinkEstimate:
    """What the acknowledgements of one session after the other say of its link.

    A request's first chunk has the link to itself: it tells the round trip, once the chunks after
    it have told the rate, by the server's clock.
    """

    def __init__(self) -> None:
        self._rates: deque[float] = deque(maxlen=2)  # of the last request, and of this one
        # bytes, when they were sent, and how many were under way then
        self._under_way: deque[tuple[int, float, int]] = deque()
        self._trips: deque[float] = deque(maxlen=_KEPT_ROUND_TRIPS)
        self._first: tuple[int, float] | None = None  # bytes, and seconds until the answer
        self._read: list[tuple[int, float]] = []  # bytes so far, and when they were read
        self._changed = asyncio.Event()
        self._window = Window()

    @property
    def bytes_per_s(self) -> float | None:
        """The lower of the last two requests' rates: few bytes tell it by some tenths only."""
        return min(self._rates, default=None)

    @property
    def round_trip_s(self) -> float | None:
        """The least of the last requests'; None while nothing is known."""
        return min(self._trips, default=None)

    @property
    def under_way_bytes(self) -> int:
        """What was sent and is not acknowledged yet."""
        return sum(size for size, _, _ in self._under_way)

    @property
    def has_room(self) -> bool:
        """Whether another chunk may be sent before one is acknowledged."""
        return self.under_way_bytes < self._window.bytes

    @property
    def piece_bytes(self) -> int:
        """The largest chunk that is worth sending now."""
        return self._window.piece_bytes

    async def settle(self, allowed_bytes: float, waiting_bytes: Callable[[], int]) -> None:
        """Waits until no more than so many bytes are under way or about to be sent."""
        while self.under_way_bytes + waiting_bytes() > allowed_bytes:
            self._changed.clear()
            await self._changed.wait()

    def know(self, bytes_per_s: float, round_trip_s: float) -> None:
        """Takes what was found out before any request."""
        self._rates.append(bytes_per_s)
        self._trips.append(round_trip_s)

    def begin(self) -> None:
        """A new request: its chunks are measured by themselves."""
        self._first, self._read = None, []

    def forget(self) -> None:
        """The session is lost, and what was under way with it."""
        self._under_way.clear()
        self._window = Window()  # the next one's link may be another
        self._changed.set()
        self.begin()

    def sent(self, size: int) -> None:
        """A chunk of so many bytes goes out now."""
        self._under_way.append((size, time.perf_counter(), self.under_way_bytes + size))

    def answered(self, received_ns: int | None) -> None:
        """The oldest chunk under way was acknowledged; None: by an answer that tells no clock."""
        if not self._under_way:
            return
        size, sent, under_way = self._under_way.popleft()
        self._changed.set()
        if received_ns is None:
            return
        trip = time.perf_counter() - sent
        self._window.answered(size, under_way, trip, self.round_trip_s or 0.0)
        before = self._read[-1][0] if self._read else 0
        self._read.append((before + size, received_ns / 1e9))
        if self._first is None:
            self._first = size, trip
            self._single(size, trip)
        else:
            self._several()

    def _single(self, size: int, trip: float) -> None:
        """A slow link shows in a single chunk too."""
        spent = trip - (self.round_trip_s or trip)
        if self._rates and spent > 10 * _LEAST_S:
            self._rates.append(min(self._rates[-1], size / spent))

    def _several(self) -> None:
        """The later half of a request's bytes: a rate that has changed shows there."""
        total, now = self._read[-1]
        earlier = [pair for pair in self._read[:-1] if pair[0] <= total / 2] or self._read[:1]
        start, then = earlier[-1]
        rate = (total - start) / max(now - then, _LEAST_S)
        if len(self._read) == 2:
            self._rates.append(rate)
        else:
            self._rates[-1] = rate
        assert self._first is not None
        size, trip = self._first
        round_trip = max(trip - size / rate, _LEAST_S)
        if len(self._read) == 2:
            self._trips.append(round_trip)
        else:
            self._trips[-1] = round_trip
