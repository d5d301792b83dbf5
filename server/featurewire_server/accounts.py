"""What a session's requests come to: into the metrics, the log and their Accounts."""

import logging
from typing import Any

from featurewire.v1 import featurewire_pb2 as pb

from featurewire_server.causal_request import CausalRequest
from featurewire_server.decoding import Decoded, Request
from featurewire_server.handshake import Terms
from featurewire_server.metrics import ServerMetrics
from featurewire_server.scheduler import Ran

log = logging.getLogger("featurewire.server")


class Accounts:
    """Counts the passes of the tail, and writes a line of the log for each request.

    Args:
        terms: of the session.
        peer: the client's address.
    """

    def __init__(self, terms: Terms, metrics: ServerMetrics, peer: str) -> None:
        self._terms = terms
        self._metrics = metrics
        self._peer = peer
        self._unwritten: Request | None = None  # its line of the log is yet to come

    def record(self, decoded: Decoded, ran: Ran[Any], output_bytes: int) -> None:
        """Counts a feature, or a span of a sequence, which is one request as a whole."""
        stages = {"queue": ran.queue_s, "decode": decoded.decode_s, "tail": ran.run_s}
        tally = decoded.request.tally
        points = sum(tensor.numel() for tensor in decoded.features.tensors.values())
        received_bytes = decoded.request.received_bytes - tally["received_bytes"]
        self._metrics.feature(
            new_request=not tally["features"],
            model=self._terms.model,
            task=self._terms.task,
            codec=self._terms.codec,
            direction="received",
            features=points,
            coded_bytes=received_bytes,
            output_bytes=output_bytes,
            stages_s=stages,
        )
        self._metrics.pass_requests.labels(self._terms.model).observe(ran.shared)
        tally.update(stages)
        tally["features"] += points
        tally["received_bytes"] += received_bytes
        tally["output_bytes"] += output_bytes

    def follow(self, request: Request) -> None:
        """The next pass is of this request: one before it that is not over was given up."""
        if self._unwritten is not request:
            self.close()
        self._unwritten = request if isinstance(request, CausalRequest) else None

    def close(self) -> None:
        """Writes the line of a request that is not over."""
        if self._unwritten is not None:
            self.write(self._unwritten)

    def write(self, request: Request) -> None:
        """Writes a request's line of the log, once it is over."""
        self._unwritten = None
        sums, terms = request.tally, self._terms
        log.info(
            "request peer=%s model=%s task=%s split=%s codec=%s features=%d received_bytes=%d"
            " bpfp=%.3f output_bytes=%d tokens=%d queue_ms=%.1f decode_ms=%.1f tail_ms=%.1f",
            self._peer,
            terms.model,
            terms.task,
            terms.split,
            terms.codec,
            sums["features"],
            sums["received_bytes"],
            8 * sums["received_bytes"] / max(sums["features"], 1),
            sums["output_bytes"],
            sums["tokens"],
            *(1000 * sums[stage] for stage in ("queue", "decode", "tail")),
        )


def account_of(request: Request) -> pb.Account:
    """What the client is told when its request is over."""
    tally = request.tally
    return pb.Account(
        request=request.begin.request,
        received_bytes=tally["received_bytes"],
        features=tally["features"],
        queue_seconds=tally["queue"],
        decode_seconds=tally["decode"],
        tail_seconds=tally["tail"],
    )
