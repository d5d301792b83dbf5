"""How much memory the caches of all requests, and outputs that wait, may take together."""

from collections.abc import Callable

from featurewire.wire.status import Refusal

from featurewire_server.refusals import server_full


class CacheBudget:
    """Reservations within `allowed` bytes: a request reserves all that it may come to."""

    def __init__(self, allowed: int, tell: Callable[[float], None]) -> None:
        """`tell` hears of every change of what is reserved."""
        self._allowed = allowed
        self._tell = tell
        self.reserved = 0

    def reserve(self, size: int) -> None:
        """Raises Refusal: the bytes are not free now, or are more than there ever are."""
        if self.reserved + size > self._allowed:
            message = (
                f"the request's cache needs {size} bytes, with outputs that wait;"
                f" {self._allowed - self.reserved} of {self._allowed} are free"
            )
            found, allowed = str(size), str(self._allowed)
            if size > self._allowed:
                raise Refusal("CACHE_TOO_SMALL", message, found=found, allowed=allowed)
            raise server_full(message, found, allowed)
        self.reserved += size
        self._tell(self.reserved)

    def release(self, size: int) -> None:
        """Gives a reservation back."""
        self.reserved -= size
        self._tell(self.reserved)
