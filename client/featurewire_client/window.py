"""How many bytes a session has under way, and may have: what was acknowledged in, a bound out.

What waits in front of a slow link delays all that comes behind it, gRPC's pings too: a server that
answers is then taken for a silent one. So no more is sent than the link takes in about a second.
"""

import time
from collections import deque

_LEAST_BYTES = 128 * 1024
_DELAY_S = 1.0  # what may wait in front of the link, beyond its round trip


class Window:
    """Grows as far as what was sent is acknowledged in good time, and shrinks where it is not.

    It begins at 128 KiB, in pieces that even 0.05 Mbit/s carry in 3 s each, and doubles with each
    round trip that it is full.

    Attributes:
        bytes: what may be under way when another chunk is sent.
    """

    def __init__(self) -> None:
        self.bytes = float(_LEAST_BYTES)

    @property
    def piece_bytes(self) -> int:
        """The largest chunk to send: several are under way, so that acknowledgements come often."""
        return int(self.bytes / 8)

    def answered(self, size: int, under_way_bytes: int, trip_s: float, round_trip_s: float) -> None:
        """A chunk of that size was acknowledged.

        `under_way_bytes`: when it was sent, itself included; `trip_s`: since then; `round_trip_s`:
        the link's own, when nothing waits.
        """
        allowed_s = _DELAY_S + 2 * round_trip_s
        if trip_s > allowed_s:
            # so many bytes in so many seconds: what it takes in the time allowed
            self.bytes = max(_LEAST_BYTES, min(self.bytes, under_way_bytes * allowed_s / trip_s))
        elif 2 * under_way_bytes >= self.bytes:  # else nothing says that the link takes more
            self.bytes += size


class UnderWay:
    """The chunks that one session has sent and that are not answered yet, in order."""

    def __init__(self) -> None:
        # bytes, when they were sent, and how many were under way then
        self._sent: deque[tuple[int, float, int]] = deque()
        self._window = Window()

    @property
    def chunks(self) -> int:
        """How many they are."""
        return len(self._sent)

    @property
    def bytes(self) -> int:
        """Their size."""
        return sum(size for size, _, _ in self._sent)

    @property
    def has_room(self) -> bool:
        """Whether another chunk may be sent before one is acknowledged."""
        return self.bytes < self._window.bytes

    @property
    def piece_bytes(self) -> int:
        """The largest chunk that is worth sending now."""
        return self._window.piece_bytes

    def sent(self, size: int) -> None:
        """A chunk of so many bytes goes out now."""
        self._sent.append((size, time.perf_counter(), self.bytes + size))

    def acknowledged(self, round_trip_s: float) -> tuple[int, float, float] | None:
        """The oldest was acknowledged: its bytes, when it was sent, and now, in seconds.

        `round_trip_s`: the link's own. None: there is none, the server acknowledges too much.
        """
        if not self._sent:
            return None
        size, sent, under_way = self._sent.popleft()
        now = time.perf_counter()
        self._window.answered(size, under_way, now - sent, round_trip_s)
        return size, sent, now

    def answered(self) -> None:
        """The oldest was answered by a token, which tells more of the server than of the link."""
        if self._sent:
            self._sent.popleft()

    def forget(self) -> None:
        """The session is over: what was under way is never acknowledged."""
        self._sent.clear()
