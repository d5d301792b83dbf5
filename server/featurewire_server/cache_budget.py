"""How much memory the caches of all generations may take together."""

from featurewire.wire.status import Refusal

_RETRY_S = 1.0


class CacheBudget:
    """Reservations within `allowed` bytes: a generation reserves what its cache may grow to."""

    def __init__(self, allowed: int) -> None:
        self._allowed = allowed
        self.reserved = 0

    def reserve(self, size: int) -> None:
        """Raises Refusal: the bytes are not free now, or are more than there ever are."""
        if self.reserved + size > self._allowed:
            message = (
                f"the generation's cache needs {size} bytes; {self._allowed - self.reserved} of"
                f" {self._allowed} are free"
            )
            found, allowed = str(size), str(self._allowed)
            if size > self._allowed:
                raise Refusal("TOO_LARGE", message, found=found, allowed=allowed)
            raise Refusal("SERVER_FULL", message, found=found, allowed=allowed, retry_s=_RETRY_S)
        self.reserved += size

    def release(self, size: int) -> None:
        """Gives a reservation back."""
        self.reserved -= size
