"""What a split point costs: stages and link as measured in, milliseconds of its requests out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

STAGES = ("head", "encode", "network", "decode", "tail")


@dataclass(frozen=True)
class Link:
    """A link's rate, megabits a second and alike both ways, and its round trip."""

    rate_mbit: float
    round_trip_ms: float

    def wire_ms(self, size: float) -> float:
        """How long so many bytes take."""
        return size / (125 * self.rate_mbit)


@dataclass(frozen=True)
class Pass:
    """What goes once through all stages: a feature, a prompt, or one token of a text.

    Attributes:
        parts: chunks, or a sequence's spans, on which stages work side by side.
        in_spans: head and tail work on parts too; else they need the whole.
        rest_ms: what a run took beyond all of it: gRPC, and both sides' own code.
    """

    sent_bytes: float
    received_bytes: float
    head_ms: float
    encode_ms: float
    decode_ms: float
    tail_ms: float
    parts: float = 1
    in_spans: bool = False
    rest_ms: float = 0.0

    def stage_ms(self, stage: str, link: Link) -> float:
        """What one of `STAGES` takes; the network's: the wire, a round trip, and the rest."""
        if stage != "network":
            return float(getattr(self, f"{stage}_ms"))
        wire_ms = link.wire_ms(self.sent_bytes + self.received_bytes)
        return max(wire_ms + link.round_trip_ms + self.rest_ms, 0.0)

    def total_ms(self, link: Link) -> float:
        """From the call to the answer; stages that work side by side count once."""
        cut = [self.encode_ms, link.wire_ms(self.sent_bytes), self.decode_ms]
        whole = [self.head_ms, self.tail_ms]
        if self.in_spans:
            whole, cut = [], whole + cut
        back_ms = link.round_trip_ms + link.wire_ms(self.received_bytes)
        return sum(whole) + overlapped(cut, self.parts) + back_ms + self.rest_ms


def overlapped(stages_ms: Sequence[float], parts: float) -> float:
    """How long stages take that hand on part after part: one part of each, the others' slowest."""
    return sum(stages_ms) / parts + max(stages_ms) * (1 - 1 / parts)


@dataclass(frozen=True)
class Answer:
    """What a request over the link told of one pass."""

    received_bytes: float
    decode_ms: float
    tail_ms: float
    total_ms: float


def predicted(edges: Sequence[Pass], answers: Mapping[int, Answer], link: Link) -> list[Pass]:
    """The passes of all split points in order, with what only some of them were asked for.

    The server's stages lie between those of the neighbours that were asked. The rest is the median
    of the three nearest: what disturbs the runs at one split point alone decides nothing. Where
    nothing was asked, they are left out.
    """
    if not answers:
        return list(edges)

    def between(values: Iterable[float]) -> list[float]:
        return [float(v) for v in np.interp(range(len(edges)), list(answers), list(values))]

    told = answers.values()
    stages = zip(
        edges,
        between(answer.received_bytes for answer in told),
        between(answer.decode_ms for answer in told),
        between(answer.tail_ms for answer in told),
        strict=True,
    )
    passes = [
        replace(edge, received_bytes=received, decode_ms=decode_ms, tail_ms=tail_ms)
        for edge, received, decode_ms, tail_ms in stages
    ]
    rests = {at: one.total_ms - passes[at].total_ms(link) for at, one in answers.items()}

    def rest_ms(at: int) -> float:
        nearest = sorted(rests, key=lambda asked: abs(asked - at))[:3]
        return median(rests[asked] for asked in nearest)

    return [replace(one, rest_ms=rest_ms(at)) for at, one in enumerate(passes)]


@dataclass(frozen=True)
class SplitCost:
    """What one split point is to cost.

    Attributes:
        profiled: whether it has a profile.
        asked: whether a request went there; else its server's stages are interpolated.
        request: an inference, or a text's prompt up to its first token.
        token: each token after the first one; None for an inference.
    """

    split: str
    profiled: bool
    asked: bool
    request: Pass
    token: Pass | None = None

    def total_ms(self, link: Link, tokens: int = 1) -> float:
        """Of an inference, or of a text of so many tokens."""
        later_ms = self.token.total_ms(link) if self.token else 0.0
        return self.request.total_ms(link) + (tokens - 1) * later_ms

    def stage_ms(self, stage: str, link: Link, tokens: int = 1) -> float:
        """What one of `STAGES` takes in all of that."""
        later_ms = self.token.stage_ms(stage, link) if self.token else 0.0
        return self.request.stage_ms(stage, link) + (tokens - 1) * later_ms
