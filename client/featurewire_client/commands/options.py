"""The options that several commands share, and the client that they come to."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer
from featurewire.wire.limits import CODECS, TUNABLE_CODECS

if TYPE_CHECKING:
    from featurewire_client.client import SplitClient

ModelName = Annotated[str, typer.Argument(help="Bundled name, local folder or hub id.")]
Address = Annotated[
    str, typer.Option("--server", help="HOST:PORT, or several with commas: the first to answer.")
]
Split = Annotated[
    str | None,
    typer.Option(help="Split point; auto: as `featurewire plan` finds. [default: the server's]"),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        help="generation, classification, segmentation, depth, text-to-image, embedding ...;"
        " `featurewire models` lists a model's. [default: the first]",
    ),
]
# what a 64-bit seed can be
Seed = Annotated[
    int, typer.Option(min=0, max=2**63 - 1, help="Of the noise: the same seed, the same result.")
]
Codec = Annotated[str, typer.Option(help=f"How features travel: {', '.join(CODECS)}.")]
SnrDb = Annotated[
    float,
    typer.Option(min=-30, max=120, help="Quality of the features in dB: 25 is close, 15 small."),
]
# the codec's own type would import numpy for --help
EffortChoice = Annotated[
    Literal["fast", "trellis"],
    typer.Option(help="trellis: a few percent fewer bytes for more work; featurewire only."),
]
ProfileChoice = Annotated[
    str, typer.Option(help="'server': the server's; 'none': self-describing; or a folder.")
]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds that one request may take.")]
LatencyBudget = Annotated[
    float | None,
    typer.Option(
        min=1,
        help="Milliseconds that a request may take, of a generation its first token: the quality"
        " follows the link, between 5 and 30 dB, from --snr-db at first.",
    ),
]
BytesBudget = Annotated[
    int | None, typer.Option(min=1, help="Bytes to aim at for what a request sends, likewise.")
]
MetricsPort = Annotated[
    int, typer.Option(min=0, max=65535, help="Prometheus metrics while it runs; 0: none.")
]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def make_client(
    model: str,
    server: str,
    *,
    split: str | None,
    task: str | None,
    codec: str,
    snr_db: float,
    effort: Literal["fast", "trellis"],
    profile: str,
    latency_budget_ms: float | None,
    budget_bytes: int | None,
    timeout_s: float,
    metrics_port: int,
) -> "SplitClient":
    """The client that the options describe, not connected yet."""
    from featurewire.wire.metrics import WireMetrics
    from prometheus_client import start_http_server

    from featurewire_client.client import SplitClient
    from featurewire_client.errors import ClientError
    from featurewire_client.quality import Budget

    budget = None
    if latency_budget_ms is not None or budget_bytes is not None:
        if codec not in TUNABLE_CODECS:
            raise typer.BadParameter(f"--codec {codec} has no quality that a budget could choose")
        budget = Budget(latency_ms=latency_budget_ms, request_bytes=budget_bytes)
    if codec not in CODECS:
        raise typer.BadParameter(f"--codec {codec!r} is none of {', '.join(CODECS)}")
    metrics = None
    if metrics_port:
        try:
            start_http_server(metrics_port, "127.0.0.1")
        except OSError as error:
            raise ClientError(f"cannot serve metrics on port {metrics_port}: {error}") from error
        metrics = WireMetrics("client")
    return SplitClient(
        server,
        model,
        split=split,
        task=task,
        codec=codec,
        snr_db=snr_db,
        effort=effort,
        profile=None if profile == "none" else profile,
        timeout_s=timeout_s,
        budget=budget,
        metrics=metrics,
    )
