"""How the features of a command travel: its options in; a split point and a client out."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import typer
from featurewire.wire.limits import CODECS, TUNABLE_CODECS
from featurewire.wire.runtime import run

from featurewire_client.commands.planning import planned

if TYPE_CHECKING:
    from featurewire_client.budget import Budget
    from featurewire_client.client import SplitClient
    from featurewire_client.plan import Plan
    from featurewire_client.planner import Work

WITHOUT_PROFILE = "1.2 to 5"  # at 15 dB, of the sources in bench/RESULTS.md
_RUNS = 2  # of a plan that a request waits for


@dataclass(frozen=True)
class Sending:
    """What a plan's clients and the one that it is for have in common.

    `profile` is "server", "none" or a folder.
    """

    model: str
    server: str
    codec: str
    snr_db: float
    effort: Literal["fast", "trellis"]
    profile: str
    dtype: str
    device: str
    timeout_s: float

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise typer.BadParameter(f"--codec {self.codec!r} is none of {', '.join(CODECS)}")

    def budget(
        self,
        latency_ms: float | None,
        request_bytes: int | None,
        least_snr_db: float | None,
        most_snr_db: float | None,
    ) -> "Budget | None":
        """`budget_of` the options, for a codec that has a quality to choose."""
        budget = budget_of(latency_ms, request_bytes, least_snr_db, most_snr_db)
        if budget is not None and self.codec not in TUNABLE_CODECS:
            message = f"--codec {self.codec} has no quality that a budget could choose"
            raise typer.BadParameter(message)
        return budget

    def plan(self, task: str, work: "Work", runs: int) -> "Plan":
        """Predictions of every split point, for features that travel so.

        Raises:
            ClientError, ModelError, CodecError: as `make_plan`.
        """
        return run(planned(self.model, self.server, task, work, runs, **self._settings))

    def best_split(self, task: str, work: "Work", budget: "Budget | None") -> str:
        """The split point that a plan finds best, which goes to stderr with its reason."""
        from featurewire_client.plan import reason

        found = self.plan(task, work, _RUNS)
        said = reason(found)
        if budget is not None:
            said += f" That is at {self.snr_db:g} dB, not at what the budget will choose."
        print(said, file=sys.stderr)
        return found.best.split

    def client(
        self, split: str | None, task: str | None, budget: "Budget | None", metrics_port: int
    ) -> "SplitClient":
        """A client, not connected yet, whose metrics are served on a port other than 0.

        Raises:
            ClientError: the port cannot be listened on.
        """
        from featurewire_client.client import SplitClient

        return SplitClient(
            self.server,
            self.model,
            split=split,
            task=task,
            budget=budget,
            metrics=_served_metrics(metrics_port) if metrics_port else None,
            **self._settings,
        )

    def tell(self, client: "SplitClient") -> None:
        """A client's last account to stderr, and what it costs to be without a profile."""
        print(client.last_stats, file=sys.stderr)
        self.tell_profile(client)

    def tell_profile(self, client: "SplitClient") -> None:
        """What it costs to be without a profile, where the session is."""
        if self.codec == "featurewire" and not client.profiled:
            print(
                f"without a profile at {client.split}: bitstreams that describe themselves take"
                f" {WITHOUT_PROFILE} times the bits; featurewire calibrate learns one",
                file=sys.stderr,
            )

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "codec": self.codec,
            "snr_db": self.snr_db,
            "effort": self.effort,
            "profile": None if self.profile == "none" else self.profile,
            "dtype": self.dtype,
            "device": self.device,
            "timeout_s": self.timeout_s,
        }


def budget_of(
    latency_ms: float | None,
    request_bytes: int | None,
    least_snr_db: float | None,
    most_snr_db: float | None,
) -> "Budget | None":
    """The budget that the options come to; None without one.

    Raises:
        SettingError: as `Budget`.
    """
    from featurewire_client.budget import Budget

    bounds = {"least_snr_db": least_snr_db, "most_snr_db": most_snr_db}
    given = {name: value for name, value in bounds.items() if value is not None}
    if latency_ms is None and request_bytes is None:
        for name in given:
            option = name.replace("_", "-")
            message = f"--{option} bounds a budget; give --latency-budget-ms or --budget-bytes too"
            raise typer.BadParameter(message)
        return None
    return Budget(latency_ms=latency_ms, request_bytes=request_bytes, **given)


def _served_metrics(port: int) -> Any:
    from featurewire.wire.metrics import WireMetrics
    from prometheus_client import start_http_server

    from featurewire_client.errors import ClientError

    try:
        start_http_server(port, "127.0.0.1")
    except OSError as error:
        raise ClientError(f"cannot serve metrics on port {port}: {error}") from error
    return WireMetrics("client")
