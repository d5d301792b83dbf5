"""What a run cost and gave, as plain records: stages in ms, bytes, bits, the task's metric.

A `Run` is one model and task over one link with one codec; a demo `Row` sets ours, float16 and the
unsplit model side by side. Both become JSON with `dataclasses.asdict`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Protocol, Self


class InferenceStats(Protocol):
    """What the client accounts for each inference; times in ms."""

    @property
    def float16_bytes(self) -> int: ...
    @property
    def sent_bytes(self) -> int: ...
    @property
    def bpfp(self) -> float: ...
    @property
    def head_ms(self) -> float: ...
    @property
    def encode_ms(self) -> float: ...
    @property
    def network_ms(self) -> float: ...
    @property
    def queue_ms(self) -> float: ...
    @property
    def decode_ms(self) -> float: ...
    @property
    def tail_ms(self) -> float: ...
    @property
    def total_ms(self) -> float: ...


@dataclass(frozen=True)
class Stages:
    """Milliseconds of one inference's stages; `network` counts waiting for the server too.

    What the wire takes beside a stage that runs at the same time is not in `network`.

    Each is a median of its own, so the total is close to the others' sum and not equal to it.
    """

    head: float
    encode: float
    network: float
    decode: float
    tail: float
    total: float

    @classmethod
    def medians(cls, stats: Sequence[InferenceStats]) -> Self:
        """Each stage's median over the inferences."""
        return cls(
            head=median(s.head_ms for s in stats),
            encode=median(s.encode_ms for s in stats),
            network=median(s.network_ms + s.queue_ms for s in stats),
            decode=median(s.decode_ms for s in stats),
            tail=median(s.tail_ms for s in stats),
            total=median(s.total_ms for s in stats),
        )


@dataclass(frozen=True)
class Run:
    """One model, task, codec and link; bytes, bits and times are medians over the inferences."""

    model: str
    task: str
    split: str
    codec: str
    snr_db: float | None  # None: the codec has no such knob
    rate_mbit: float
    rtt_ms: float
    inferences: int
    float16_bytes: float  # the features as float16, nothing else
    sent_bytes: float  # bitstreams and framing
    bpfp: float  # sent bits a feature point
    metric: str
    value: float
    ms: Stages

    @classmethod
    def of(
        cls,
        stats: Sequence[InferenceStats],
        *,
        model: str,
        task: str,
        split: str,
        codec: str,
        snr_db: float | None,
        rate_mbit: float,
        rtt_ms: float,
        metric: str,
        value: float,
    ) -> Self:
        """The run that these inferences make up."""
        return cls(
            model=model,
            task=task,
            split=split,
            codec=codec,
            snr_db=snr_db,
            rate_mbit=rate_mbit,
            rtt_ms=rtt_ms,
            inferences=len(stats),
            float16_bytes=median(s.float16_bytes for s in stats),
            sent_bytes=median(s.sent_bytes for s in stats),
            bpfp=median(s.bpfp for s in stats),
            metric=metric,
            value=value,
            ms=Stages.medians(stats),
        )


@dataclass(frozen=True)
class RowStages(Stages):
    """A row's stages, and what sending float16 took in all over the same link."""

    float16_total: float


@dataclass(frozen=True)
class Row:
    """One line of the demo's table."""

    model: str
    task: str
    split: str
    float16_bytes: int  # measured, framing included
    sent_bytes: int
    bpfp: float
    metric: str
    unsplit: float
    split_value: float
    ms: RowStages

    @classmethod
    def of(cls, ours: Run, float16: Run, unsplit: float) -> Self:
        """Our run beside the float16 run and the unsplit model's metric on the same inputs."""
        stages = {f.name: getattr(ours.ms, f.name) for f in fields(Stages)}
        return cls(
            model=ours.model,
            task=ours.task,
            split=ours.split,
            float16_bytes=round(float16.sent_bytes),
            sent_bytes=round(ours.sent_bytes),
            bpfp=ours.bpfp,
            metric=ours.metric,
            unsplit=unsplit,
            split_value=ours.value,
            ms=RowStages(**stages, float16_total=float16.ms.total),
        )
