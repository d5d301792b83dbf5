"""Prometheus metrics of one side of the wire, with the same names on both.

`featurewire_server_...` and `featurewire_client_...`; base units; every label comes from a fixed
set: models that are loaded, stages, directions and status codes, never anything a peer chose.
"""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

_STAGE_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_BPFP_BUCKETS = (0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 12, 16, 24, 32)


class WireMetrics:
    """Counters of one process; `side` is "server" or "client"."""

    def __init__(self, side: str, registry: CollectorRegistry = REGISTRY) -> None:
        prefix = f"featurewire_{side}"
        self.requests = Counter(
            f"{prefix}_requests",
            "Requests whose answer has begun; a whole generation is one.",
            ["model", "task"],
            registry=registry,
        )
        self.feature_bytes = Counter(
            f"{prefix}_feature_bytes",
            "Bytes of features by direction, raw (float32) and as coded on the wire.",
            ["model", "direction", "form"],
            registry=registry,
        )
        self.output_bytes = Counter(
            f"{prefix}_output_bytes",
            "Bytes of outputs by direction.",
            ["model", "direction"],
            registry=registry,
        )
        self.bits_per_feature_point = Histogram(
            f"{prefix}_bits_per_feature_point",
            "Bits sent for one feature point, everything counted.",
            ["model", "codec"],
            buckets=_BPFP_BUCKETS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            f"{prefix}_stage_seconds",
            "Seconds of one stage of one feature.",
            ["model", "stage"],
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.sessions = Gauge(f"{prefix}_sessions", "Sessions open now.", registry=registry)
        self.errors = Counter(
            f"{prefix}_errors", "Calls that ended with an error.", ["code"], registry=registry
        )

    def feature(
        self,
        *,
        new_request: bool,
        model: str,
        task: str,
        codec: str,
        direction: str,
        features: int,
        coded_bytes: int,
        output_bytes: int,
        stages_s: dict[str, float],
    ) -> None:
        """Counts one answered feature, "sent" or "received"; a step of a generation is one too."""
        back = "received" if direction == "sent" else "sent"
        if new_request:
            self.requests.labels(model, task).inc()
        self.feature_bytes.labels(model, direction, "raw").inc(4 * features)
        self.feature_bytes.labels(model, direction, "coded").inc(coded_bytes)
        self.output_bytes.labels(model, back).inc(output_bytes)
        if features:
            self.bits_per_feature_point.labels(model, codec).observe(8 * coded_bytes / features)
        for stage, seconds in stages_s.items():
            self.stage_seconds.labels(model, stage).observe(seconds)
