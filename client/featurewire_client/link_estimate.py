"""Rate and round trip of a link, from when chunks were sent, read over there and acknowledged."""

import asyncio
from collections import deque
from collections.abc import Callable

_LEAST_S = 1e-4  # below this, what is measured is the scheduler
_KEPT_ROUND_TRIPS = 16


class LinkEstimate:
    """What the acknowledgements of one session after the other say of its link.

    A request's first chunk has the link to itself: it tells the round trip, once the chunks after
    it have told the rate, by the server's clock.
    """

    def __init__(self) -> None:
        self._rates: deque[float] = deque(maxlen=2)  # of the last request, and of this one
        self._trips: deque[float] = deque(maxlen=_KEPT_ROUND_TRIPS)
        self._first: tuple[int, float] | None = None  # bytes, and seconds until the answer
        self._read: list[tuple[int, float]] = []  # bytes so far, and when they were read
        self._told = False  # whether the last of the rates is this request's
        self._changed = asyncio.Event()

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
        self._first, self._read, self._told = None, [], False

    def acknowledged(self, size: int, trip: float, received_ns: int) -> None:
        """A chunk was read by the server then, and its acknowledgement came after such a trip."""
        before = self._read[-1][0] if self._read else 0
        self._read.append((before + size, received_ns / 1e9))
        if self._first is None:
            self._first = size, trip
            self._single(size, trip)
        else:
            self._several()

    def _single(self, size: int, trip: float) -> None:
        """A slow link shows in a single chunk too, until those behind it tell more."""
        spent = trip - (self.round_trip_s or trip)
        if self._rates and spent > 10 * _LEAST_S:
            self._tell(min(self._rates[-1], size / spent))

    def _several(self) -> None:
        """The later half of a request's bytes: a rate that has changed shows there."""
        total, now = self._read[-1]
        earlier = [pair for pair in self._read[:-1] if pair[0] <= total / 2] or self._read[:1]
        start, then = earlier[-1]
        rate = (total - start) / max(now - then, _LEAST_S)
        self._tell(rate)
        assert self._first is not None
        size, trip = self._first
        round_trip = max(trip - size / rate, _LEAST_S)
        if len(self._read) == 2:
            self._trips.append(round_trip)
        else:
            self._trips[-1] = round_trip

    def _tell(self, rate: float) -> None:
        """A request has one rate, the latest."""
        if self._told:
            self._rates[-1] = rate
        else:
            self._rates.append(rate)
            self._told = True
