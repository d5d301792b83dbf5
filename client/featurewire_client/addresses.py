"""Which of several servers is asked next, and when: failures in, connections and waits out.

The next address is tried at once and then after waits that grow, are capped and are random ("full
jitter").
"""

import logging
import random

from featurewire_client.connection import Connection, connect, parse_addresses
from featurewire_client.errors import NO_ROOM, ClientError, RefusedError

log = logging.getLogger("featurewire.client")

_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 2.0
_LONGEST_ASKED_S = 5.0
_MOST_DOUBLINGS = 6  # by then the wait is as long as it gets


def wait_s(attempt: int, asked_s: float | None = None) -> float:
    """Seconds to wait before an attempt, at random; on top of what a server asked for, capped."""
    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(attempt, _MOST_DOUBLINGS))
    return min(max(asked_s or 0.0, 0.0), _LONGEST_ASKED_S) + random.uniform(0, longest)


class Addresses:
    """The addresses of servers that serve the same, and whose turn it is.

    Attributes:
        every: each of them, in the caller's order.
        turn: counts up; the address that is next follows from it.
    """

    def __init__(self, addresses: str) -> None:
        """`addresses`: "host:port", or several with commas between.

        Raises:
            AddressError: one is not HOST:PORT.
        """
        self.every = parse_addresses(addresses)
        self.turn = 0
        self._troubles: dict[str, str] = {}

    @property
    def next(self) -> str:
        """The address whose turn it is."""
        return self._at(self.turn)

    def _at(self, turn: int) -> str:
        return self.every[turn % len(self.every)]

    async def dial(self, timeout_s: float, turn: int | None = None) -> Connection:
        """Connects to the next one, or to the one of another turn.

        Raises:
            ConnectionFailedError: it does not answer.
        """
        return await connect(self._at(self.turn if turn is None else turn), timeout_s)

    def pass_over(self, error: ClientError, others: bool = False) -> None:
        """The next one has no session for us: the turn goes on.

        Args:
            error: why it has none.
            others: a session is to go on, and there are addresses that were not tried for it yet:
                then a server of another model or revision, or one whose memory is too small, is
                one more that cannot take it.

        Raises:
            RefusedError: the error itself, where another server would say the same.
        """
        if isinstance(error, RefusedError) and error.reason != "SERVER_FULL":
            other_kind = error.reason.endswith(("_MISMATCH", "_UNKNOWN"))
            if not (others and (other_kind or error.reason in NO_ROOM)):
                raise error
        self._troubles[self.next] = str(error)
        log.info("no session yet: %s", error)
        self.turn += 1

    def found(self) -> None:
        """There is a session: what was in its way is history."""
        self._troubles.clear()

    def overdue(self, timeout_s: float, what: str = "answer") -> str:
        """What to say of a request, or a handshake, that took longer than it may."""
        troubles = [self._troubles[one] for one in self.every if one in self._troubles]
        cause = f"; the last failure{'s' * (len(troubles) > 1)}: " if troubles else ""
        cause += "; ".join(troubles)
        return f"no {what} from {', '.join(self.every)} within {timeout_s:g} s{cause}"
