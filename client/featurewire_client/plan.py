"""Where to split: stages and link measured at a few points, every split point's latency predicted.

The head and the encoder run here for every split point. Over the link go requests at three of
them: what the tail takes at the others lies between, and the link is measured by the way.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch

from featurewire_client.client import SplitClient
from featurewire_client.edge import Seconds, is_long
from featurewire_client.link_estimate import LinkEstimate
from featurewire_client.stats import InferStats

_UNLIMITED = 1e10  # bytes a second of a link too fast to be measured by so few


@dataclass(frozen=True)
class Link:
    """A link's rate, megabits a second, and its round trip."""

    rate_mbit: float
    round_trip_ms: float


@dataclass(frozen=True)
class SplitCost:
    """What one split point is to cost, and whether it has a profile.

    network_ms: both ways at the link's rate, one round trip, and what gRPC and both sides' own
    code took where requests went. total_ms counts encoding, wire and decoding once where a
    feature of several chunks lets them go on together.
    """

    split: str
    profiled: bool
    sent_bytes: int
    received_bytes: int
    head_ms: float
    encode_ms: float
    network_ms: float
    decode_ms: float
    tail_ms: float
    total_ms: float


@dataclass(frozen=True)
class Plan:
    """The link as it was, and every split point's cost over it."""

    link: Link
    costs: list[SplitCost]

    @property
    def best(self) -> SplitCost:
        """The split point with the shortest total."""
        return min(self.costs, key=lambda cost: cost.total_ms)


@dataclass(frozen=True)
class _Edge:
    """What was measured on this side at one split point."""

    split: str
    profiled: bool
    points: int
    sent_bytes: int
    head_ms: float
    encode_ms: float
    stats: InferStats | None  # of a request, where one went


async def make_plan(
    make_client: Callable[[str], SplitClient],
    splits: Sequence[str],
    inputs: dict[str, torch.Tensor],
    runs: int,
    begin: Callable[[str], None],
) -> Plan:
    """Measures and predicts; the first run of everything only warms up.

    Args:
        make_client: a client for a split point, with a budget that bounds nothing, so that it
            probes the link.
        begin: called with each split point before it runs.

    Raises:
        ClientError, ModelError, CodecError: as `SplitClient.infer`.
    """
    probed = {0, len(splits) // 2, len(splits) - 1}
    edges, links = [], []
    for number, split in enumerate(splits):
        begin(split)
        async with make_client(split) as client:
            edge = await _measure_edge(client, split, inputs, runs)
            if number in probed:
                await client.infer(inputs)
                every = [(await client.infer(inputs)).stats for _ in range(runs)]
                edge = replace(edge, stats=_median(every))
                links.append((edge.sent_bytes, client.link))
            edges.append(edge)
    link = _link(links)
    return Plan(link, _predict(edges, link))


async def _measure_edge(
    client: SplitClient, split: str, inputs: dict[str, torch.Tensor], runs: int
) -> _Edge:
    heads, encodes = [], []
    for _ in range(runs + 1):
        seconds = Seconds()
        features = await client.edge.features(inputs, seconds)
        started = time.perf_counter()
        chunks = [chunk async for chunk in client.edge.chunks(features, client.snr_db, seconds)]
        encodes.append(1000 * (time.perf_counter() - started))
        heads.append(1000 * seconds.head)
    size = sum(chunk.ByteSize() for chunk in chunks)
    size += sum(tensor.nbytes for tensor in features.uncoded.values())
    head_ms, encode_ms = median(heads[1:]), median(encodes[1:])
    return _Edge(split, client.profiled, seconds.points, size, head_ms, encode_ms, None)


def _median(every: list[InferStats]) -> InferStats:
    return sorted(every, key=lambda stats: stats.total_ms)[len(every) // 2]


def _link(links: Sequence[tuple[int, LinkEstimate]]) -> Link:
    """The rate that the largest request saw, and the least round trip."""
    known = [(size, link) for size, link in links if link.bytes_per_s]
    rate = max(known, key=lambda pair: pair[0])[1].bytes_per_s if known else None
    trips = [trip for _, link in links if (trip := link.round_trip_s) is not None]
    return Link(8e-6 * (rate or _UNLIMITED), 1000 * min(trips, default=0.0))


def _predict(edges: Sequence[_Edge], link: Link) -> list[SplitCost]:
    probes = [(number, edge.stats) for number, edge in enumerate(edges) if edge.stats]

    def between(name: str, number: int) -> float:
        values = [float(getattr(stats, name)) for _, stats in probes]
        return float(np.interp(number, [place for place, _ in probes], values))

    costs = [
        _cost(
            edge,
            link,
            decode_ms=between("decode_ms", number),
            tail_ms=between("tail_ms", number),
            received_bytes=int(between("received_bytes", number)),
        )
        for number, edge in enumerate(edges)
    ]
    # what no stage accounts for: the same wherever the model is split
    rest = median([stats.total_ms - costs[number].total_ms for number, stats in probes])
    return [
        replace(cost, network_ms=max(cost.network_ms + rest, 0.0), total_ms=cost.total_ms + rest)
        for cost in costs
    ]


def _cost(
    edge: _Edge, link: Link, *, decode_ms: float, tail_ms: float, received_bytes: int
) -> SplitCost:
    up_ms, down_ms = (size / (125 * link.rate_mbit) for size in (edge.sent_bytes, received_bytes))
    stages = (edge.encode_ms, up_ms, decode_ms)
    together = max(stages) if is_long(edge.points) else sum(stages)
    return SplitCost(
        edge.split,
        edge.profiled,
        edge.sent_bytes,
        received_bytes,
        head_ms=edge.head_ms,
        encode_ms=edge.encode_ms,
        network_ms=up_ms + down_ms + link.round_trip_ms,
        decode_ms=decode_ms,
        tail_ms=tail_ms,
        total_ms=edge.head_ms + together + tail_ms + down_ms + link.round_trip_ms,
    )


def reason(plan: Plan) -> str:
    """Sentences: the best split point, what the runner-up would cost more, what would change it."""
    first = plan.best
    others = [cost for cost in plan.costs if cost is not first]
    if not others:
        return f"{first.split} is the only split point: {first.total_ms:.1f} ms."
    second = min(others, key=lambda cost: cost.total_ms)
    stages = ("head", "encode", "network", "decode", "tail")
    gains = {
        stage: getattr(second, f"{stage}_ms") - getattr(first, f"{stage}_ms") for stage in stages
    }
    stage = max(gains, key=lambda name: gains[name])
    return (
        f"Split at {first.split}: {first.total_ms:.1f} ms in all. Next is {second.split} with"
        f" {second.total_ms:.1f} ms, mostly {gains[stage]:.1f} ms more of {stage}."
        f" {what_would_change_it(plan)}"
    )


def what_would_change_it(plan: Plan) -> str:
    """The rates of the link, slower and faster, at which another split point would be best."""
    first, rate = plan.best, plan.link.rate_mbit
    slower, faster = (0.0, ""), (float("inf"), "")
    for cost in plan.costs:
        # totals are A + B / rate: where do the two lines cross?
        more = (cost.sent_bytes + cost.received_bytes) - (first.sent_bytes + first.received_bytes)
        gap = cost.total_ms - first.total_ms - more / (125 * rate)
        if more == 0 or gap == 0 or -more / gap <= 0:
            continue
        crossing = -more / gap / 125
        if more < 0 and slower[0] < crossing < rate:
            slower = crossing, cost.split
        elif more > 0 and rate < crossing < faster[0]:
            faster = crossing, cost.split
    said = [
        f"below {slower[0]:.3g} Mbit/s {slower[1]} would be faster" if slower[1] else "",
        f"above {faster[0]:.3g} Mbit/s {faster[1]}{'' if slower[1] else ' would be faster'}"
        if faster[1]
        else "",
    ]
    known = ", ".join(filter(None, said))
    if not known:
        return "No rate of the link would change that."
    return known[0].upper() + known[1:] + "."
