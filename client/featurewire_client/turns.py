"""A client's requests, one at a time, from its opening to its end: callers in, turns out."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from featurewire_client.errors import ClientError, DeadlineError


class Turns:
    """Gives one request after the other its turn.

    A generation keeps its turn while its caller does not take the next piece: whoever comes after
    it may wait for ever.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._holder = ""
        self.is_open = False

    def check(self) -> None:
        """Raises ClientError: the client is closed, or was never opened."""
        if not self.is_open:
            raise ClientError("the client is closed: it takes calls within `async with` only")

    @contextlib.asynccontextmanager
    async def take(self, what: str, timeout_s: float) -> AsyncIterator[None]:
        """The turn of "an inference" or "a generation", once that before it is over.

        Raises:
            ClientError: the client is closed.
            DeadlineError: the one before takes longer than so many seconds.
        """
        self.check()
        try:
            async with asyncio.timeout(timeout_s):
                await self._lock.acquire()
        except TimeoutError as error:
            raise DeadlineError(
                f"{self._holder} of this client is still under way after {timeout_s:g} s, and"
                " another request must wait for it: take a generation's pieces to their end, or"
                " close it (aclose)"
            ) from error
        try:
            self.check()
            self._holder = what
            yield
        finally:
            self._lock.release()
