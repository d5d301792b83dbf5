"""What a server is told once, at its start."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerConfig:
    """Settings of one server process.

    Attributes:
        models: bundled names, local folders or hub ids, any with "@" and a revision behind it.
        split: the only split point to serve, holding just that tail; None: the whole model, for
            every split point.
        listen: address as "host:port"; port 0 takes a free one.
        metrics_port: port of the Prometheus metrics, on the host of `listen`; 0: none.
        profiles: folders that `featurewire calibrate` made; they go before those beside a model.
        dtype: element type that the tails compute in.
        device: torch device of the tails; "auto": a GPU where there is one.
        max_sessions: sessions open at once; one more gets the place of one that was not used for 30
            s, or is refused with a time to retry after.
        threads: CPU threads of one tail's operators; 0: torch's own choice, and one where the tails
            are on a GPU.
        workers: tails that run at once.
        max_batch: samples of requests of one shape, or steps of generations, that may share one
            pass of a tail; 1: none do, and no answer depends on its company in its last bits.
        batch_wait_ms: how long a one-shot request waits for others to share its pass, when other
            sessions are open.
        cache_mb: mebibytes that the features, the caches and the outputs of all requests may take
            together.
        idle_s: seconds without a message after which a session is ended; a stream that has not
            shaken hands is ended sooner.
        grace_s: seconds that requests may go on for after SIGTERM.
    """

    models: tuple[str, ...]
    split: str | None = None
    listen: str = "127.0.0.1:50051"
    metrics_port: int = 9464
    profiles: tuple[str, ...] = ()
    dtype: str = "float32"
    device: str = "cpu"
    max_sessions: int = 64
    threads: int = 0
    workers: int = 1
    max_batch: int = 16
    batch_wait_ms: float = 1.0
    cache_mb: int = 4096
    idle_s: float = 600.0
    grace_s: float = 10.0
