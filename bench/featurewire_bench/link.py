"""One direction of an emulated link: byte counts in, delivery times out. No sockets here.

A link direction is a queue in front of a wire: a chunk that arrives at `now` begins to leave when
the wire is free, takes `size / rate` to leave, and is delivered `delay` later. All connections
share the wire.
"""

import math
import random
from dataclasses import dataclass

from featurewire_bench.errors import LinkError

QUEUE_BYTES = 64 * 1024  # what the sending side may have queued ahead of the wire, at least
QUEUE_S = 0.010  # ... and at least this long, so that a late timer never leaves a fast wire idle
CHUNK_S = 0.002  # a chunk is what the wire carries in this time: small messages interleave
MIN_CHUNK_BYTES = 1460  # one Ethernet segment
MAX_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class LinkConfig:
    """What a link can do; both directions alike."""

    rate_mbit: float = 20.0  # Mbit/s, each direction
    rtt_ms: float = 40.0  # ms, round trip: half of it each way
    jitter_ms: float = 0.0  # ms, each chunk waits up to this much longer; order is kept

    def __post_init__(self) -> None:
        if not 0 < self.rate_mbit < math.inf:
            raise LinkError(f"rate is {self.rate_mbit} Mbit/s; it must be more than 0 and finite")
        if not 0 <= self.rtt_ms < math.inf:
            raise LinkError(f"round trip is {self.rtt_ms} ms; it must be 0 or more")
        if not 0 <= self.jitter_ms < math.inf:
            raise LinkError(f"jitter is {self.jitter_ms} ms; it must be 0 or more")

    @property
    def bytes_per_s(self) -> float:
        """Payload bytes that the wire carries in a second."""
        return self.rate_mbit * 1e6 / 8


class Wire:
    """The clock of one direction. Times are seconds of one monotonic clock."""

    def __init__(self, config: LinkConfig, seed: int = 0) -> None:
        self.config = config
        self.carried_bytes = 0
        self._free_at = -math.inf
        self._random = random.Random(seed)

    @property
    def chunk_bytes(self) -> int:
        """The largest chunk to put on the wire at once."""
        wanted = self.config.bytes_per_s * CHUNK_S
        return int(min(max(wanted, MIN_CHUNK_BYTES), MAX_CHUNK_BYTES))

    @property
    def queue_bytes(self) -> float:
        """How many bytes may wait in front of the wire before its senders are held back."""
        return max(QUEUE_BYTES, self.config.bytes_per_s * QUEUE_S)

    def hold_s(self, now: float) -> float:
        """How long a sender must wait before the queue in front of the wire has room again."""
        return max(0.0, self._free_at - now - self.queue_bytes / self.config.bytes_per_s)

    def send(self, size: int, now: float) -> float:
        """Puts `size` bytes that arrived at `now` on the wire; returns when they are delivered."""
        self._free_at = max(now, self._free_at) + size / self.config.bytes_per_s
        self.carried_bytes += size
        return self._free_at + self.delay_s()

    def delay_s(self) -> float:
        """Half the round trip and a jitter drawn anew, in seconds."""
        jitter = self._random.uniform(0, self.config.jitter_ms) if self.config.jitter_ms else 0.0
        return (self.config.rtt_ms / 2 + jitter) / 1e3
