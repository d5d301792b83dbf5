"""Prometheus metrics of a server, beside those that both sides have."""

from featurewire.wire.metrics import WireMetrics
from prometheus_client import CollectorRegistry, Gauge, Histogram


class ServerMetrics(WireMetrics):
    """Counters of one server process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__("server", registry)
        self.open_sessions = 0
        self.cache_bytes = Gauge(
            "featurewire_server_cache_bytes",
            "What the features, caches and outputs of all requests may grow to.",
            registry=registry,
        )
        self.pass_requests = Histogram(
            "featurewire_server_pass_requests",
            "Requests, or steps of generations, that shared one pass of a tail.",
            ["model"],
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
