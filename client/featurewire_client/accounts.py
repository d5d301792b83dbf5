"""What a client's requests come to: into the metrics and the log, held against their budget."""

import logging
from dataclasses import replace

from featurewire.wire.metrics import WireMetrics

from featurewire_client.quality import QualityControl
from featurewire_client.stats import InferStats
from featurewire_client.terms import Terms

log = logging.getLogger("featurewire.client")

_STAGES = ("head", "encode", "network", "total")


class Accounts:
    """One entry for each request.

    Args:
        terms: of the sessions.
        metrics: counters to keep; None: none.
    """

    def __init__(self, terms: Terms, metrics: WireMetrics | None) -> None:
        self._terms = terms
        self._metrics = metrics

    def record(self, stats: InferStats, control: QualityControl | None) -> InferStats:
        """The request's account, with what is beyond the budget that `control` keeps."""
        if control is not None:
            stats = _with_shortfall(stats, control)
        terms = self._terms
        if self._metrics:
            self._metrics.feature(
                new_request=True,
                model=terms.info.name,
                task=terms.task,
                codec=terms.codec,
                direction="sent",
                features=stats.features,
                coded_bytes=stats.sent_bytes,
                output_bytes=stats.received_bytes,
                stages_s={stage: getattr(stats, f"{stage}_ms") / 1000 for stage in _STAGES},
            )
        said = (terms.info.name, terms.task, terms.split, terms.codec, stats)
        log.info("request model=%s task=%s split=%s codec=%s %s", *said)
        return stats


def _with_shortfall(stats: InferStats, control: QualityControl) -> InferStats:
    """The account with what is beyond the budget, which is said."""
    took_ms = stats.first_token_ms if stats.tokens else stats.total_ms
    control.ended(took_ms)
    if control.missed_ms:
        missed_ms = control.missed_ms
        log.warning("the budget was missed by %.0f ms: it took %.0f ms", missed_ms, took_ms)
    if control.missed_bytes:
        log.warning("the budget was missed by %d bytes", control.missed_bytes)
    if control.shortfall_ms or control.shortfall_bytes:
        log.warning(
            "the budget cannot be held: %.0f ms and %d bytes beyond it at %g dB",
            control.shortfall_ms,
            control.shortfall_bytes,
            control.least_snr_db,
        )
    return replace(
        stats,
        shortfall_ms=control.shortfall_ms,
        shortfall_bytes=control.shortfall_bytes,
        missed_ms=control.missed_ms,
        missed_bytes=control.missed_bytes,
    )
