"""How much memory all requests may take together: features, caches and outputs."""

from collections.abc import Callable

from featurewire.wire.status import Refusal

from featurewire_server.refusals import server_full


class CacheBudget:
    """Reservations within `allowed` bytes."""

    def __init__(self, allowed: int, tell: Callable[[float], None]) -> None:
        """`tell` hears of every change of what is reserved."""
        self._allowed = allowed
        self._tell = tell
        self.reserved = 0

    def reserve(self, what: str, size: int, before: int = 0) -> None:
        """`before`: what the request has already, for what comes before that.

        Raises:
            Refusal: the bytes are not free now, or are more than there ever are.
        """
        if self.reserved + size > self._allowed:
            message = (
                f"no memory for the request's {what}, {size} bytes;"
                f" {self._allowed - self.reserved} of {self._allowed} are free"
            )
            found, allowed = str(size), str(self._allowed)
            if before + size > self._allowed:
                raise Refusal("CACHE_TOO_SMALL", message, found=found, allowed=allowed)
            raise server_full(message, found, allowed)
        self.reserved += size
        self._tell(self.reserved)

    def release(self, size: int) -> None:
        """Gives a reservation back."""
        self.reserved -= size
        self._tell(self.reserved)


class Reservations:
    """What one session has reserved of the budget, and for which of its requests."""

    def __init__(self, budget: CacheBudget) -> None:
        self._budget = budget
        self._sizes: dict[object, int] = {}

    def reserve(self, request: object, what: str, size: int) -> None:
        """Reserves so much more for a request.

        Raises:
            Refusal: as of the budget.
        """
        before = self._sizes.get(request, 0)
        self._budget.reserve(what, size, before)
        self._sizes[request] = before + size

    def release(self, request: object) -> None:
        """Gives back what a request had reserved, finished or given up; may be called twice."""
        self._budget.release(self._sizes.pop(request, 0))

    def close(self) -> None:
        """Gives everything back."""
        for request in list(self._sizes):
            self.release(request)
