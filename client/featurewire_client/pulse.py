"""Whether a server still lives: signs of life in, and an end where none comes.

gRPC's own pings do not tell: their answers wait behind all that is queued in front of a slow link,
minutes at times, while answers come steadily. Here any message counts, and a server is asked only
where none came for a while.
"""

import asyncio
import time

import grpc
from featurewire.v1 import featurewire_pb2 as pb

from featurewire_client.connection import Connection

_QUIET_S = 10.0  # without a message: then the server is asked
_ANSWER_S = 5.0  # for a message, or what it was asked


class Pulse:
    """Follows one session's server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.heard()

    def heard(self) -> None:
        """A message has come."""
        self._heard = time.monotonic()

    async def silence(self) -> float:
        """Waits until the server is silent: the seconds that it has been."""
        while True:
            quiet_s = time.monotonic() - self._heard
            if quiet_s < _QUIET_S:
                await asyncio.sleep(_QUIET_S - quiet_s)
                continue
            before = self._heard
            try:
                await self._connection.stub.Probe(pb.ProbeRequest(), timeout=_ANSWER_S)
            except grpc.aio.AioRpcError as error:
                # any other status is an answer: a server that is about to stop takes no new call
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and self._heard == before:
                    return time.monotonic() - before
            self.heard()
