"""What a plan is made from: heads and codecs timed here, requests and the link over the wire.

Heads and encoders run here for every split point. Requests go at all of them where they are few,
else at some that are spread evenly: what the server takes at the others lies between. Everything is
the median of some runs, after one that only warms up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch

from featurewire_client.chunks import is_long
from featurewire_client.client import SplitClient
from featurewire_client.connection import Connection, probe
from featurewire_client.head_pass import Seconds
from featurewire_client.plan import Plan
from featurewire_client.split_cost import Answer, Link, Pass, SplitCost, predicted
from featurewire_client.transcript import begin_of

Timed = TypeVar("Timed", Pass, Answer)

ASKED_SPLITS = 8
_ASKED_TOKENS = 8  # after the first one: enough to tell what one takes
_LINK_PROBES = 3


@dataclass(frozen=True)
class Inference:
    """One request and its answer; `inputs` as `SplitClient.infer` takes them."""

    inputs: dict[str, torch.Tensor]
    tokens: int = 1
    most_tokens: int = 1

    async def alone(self, client: SplitClient) -> list[Pass]:
        """The edge's stages, nothing of the server's."""
        if client.edge.takes_spans(self.inputs):
            return [await _sequence(client, self.inputs["input_ids"], client.edge.head.new_cache())]
        seconds = Seconds()
        features = await client.edge.features(self.inputs, seconds)
        chunks = [chunk async for chunk in client.edge.chunks(features, client.snr_db, seconds)]
        size = begin_of(features, ()).ByteSize() + sum(chunk.ByteSize() for chunk in chunks)
        parts = sum(bool(chunk.payload) for chunk in chunks) if is_long(seconds.points) else 1
        return [_of_edge(seconds, size, parts=parts)]

    async def asked(self, client: SplitClient) -> list[Answer]:
        """A request, over the link."""
        stats = (await client.infer(self.inputs)).stats
        return [Answer(stats.received_bytes, stats.decode_ms, stats.tail_ms, stats.total_ms)]


@dataclass(frozen=True)
class Text:
    """A text to continue by `tokens` tokens: its prompt, as words and as ids `[1, tokens]`.

    `most_tokens`: what the model's context has room for; None: nobody knows.
    """

    prompt: str
    ids: torch.Tensor
    tokens: int
    most_tokens: int | None = None

    async def alone(self, client: SplitClient) -> list[Pass]:
        """The edge's stages of the prompt, and of a token after it where one is wanted."""
        edge, cache = client.edge, client.edge.head.new_cache()
        passes = [await _sequence(client, self.ids, cache)]
        if later := self._later:
            seconds, token = Seconds(), int(self.ids[0, -1])
            steps = [await edge.step(token, cache, client.snr_db, seconds) for _ in range(later)]
            size = sum(chunk.ByteSize() for span in steps for chunk in span.chunks)
            passes.append(_of_edge(seconds, size, share=1 / later))
        return passes

    async def asked(self, client: SplitClient) -> list[Answer]:
        """Two requests over the link: what the prompt takes, and what some tokens take more."""
        first = await self._generated(client, 1)
        whole = await self._generated(client, 1 + self._later) if self._later else first
        prompt_ms = (first.first_token_ms + whole.first_token_ms) / 2
        prompt = Answer(first.received_bytes, first.decode_ms, first.tail_ms, prompt_ms)
        if whole.tokens < 2:  # no more are wanted, or the model ends the text at once
            return [prompt]
        share = 1 / (whole.tokens - 1)
        return [
            prompt,
            Answer(
                share * max(whole.received_bytes - first.received_bytes, 0),
                share * max(whole.decode_ms - first.decode_ms, 0.0),
                share * max(whole.tail_ms - first.tail_ms, 0.0),
                share * (whole.total_ms - whole.first_token_ms),
            ),
        ]

    @property
    def _later(self) -> int:
        return min(self.tokens - 1, _ASKED_TOKENS)

    async def _generated(self, client: SplitClient, tokens: int) -> Any:
        async for _ in client.generate(self.prompt, max_tokens=tokens):
            pass
        return client.last_stats


Work = Inference | Text  # what a plan is for


async def _sequence(client: SplitClient, ids: torch.Tensor, cache: object) -> Pass:
    """The edge's stages of a sequence `[1, tokens]` that goes span by span."""
    seconds, edge = Seconds(), client.edge
    spans = [span async for span in edge.spans(ids, cache, client.snr_db, seconds)]
    size = sum(chunk.ByteSize() for span in spans for chunk in span.chunks)
    seconds.encode /= edge.encoders
    return _of_edge(seconds, size, parts=len(spans), in_spans=True)


def _of_edge(seconds: Seconds, size: int, share: float = 1.0, **how: Any) -> Pass:
    head_ms, encode_ms = 1000 * share * seconds.head, 1000 * share * seconds.encode
    return Pass(share * size, 0, head_ms, encode_ms, decode_ms=0, tail_ms=0, **how)


async def make_plan(
    connection: Connection,
    make_client: Callable[[str], SplitClient],
    splits: Sequence[str],
    work: Work,
    runs: int,
    begin: Callable[[str], None],
) -> Plan:
    """Measures and predicts.

    Args:
        connection: over which the link is probed.
        make_client: a client for a split point.
        begin: called with each split point before it runs.

    Raises:
        ClientError, ModelError, CodecError: as `SplitClient.infer`.
    """
    link = await _link(connection)
    asked_at = {round(place) for place in np.linspace(0, len(splits) - 1, ASKED_SPLITS)}
    profiled: list[bool] = []
    edges: list[list[Pass]] = []
    answers: dict[int, list[Answer]] = {}
    for number, split in enumerate(splits):
        begin(split)
        async with make_client(split) as client:
            profiled.append(client.profiled)
            edges.append(_typical([await work.alone(client) for _ in range(runs + 1)]))
            if number in asked_at:
                answers[number] = _typical([await work.asked(client) for _ in range(runs + 1)])
    passes = [
        predicted(
            [passes[leg] for passes in edges],
            {at: told[leg] for at, told in answers.items() if len(told) > leg},
            link,
        )
        for leg in range(len(edges[0]))
    ]
    costs = [
        SplitCost(split, known, number in asked_at, *of_split)
        for number, (split, known, *of_split) in enumerate(
            zip(splits, profiled, *passes, strict=True)
        )
    ]
    return Plan(link, costs, work.tokens, work.most_tokens)


async def _link(connection: Connection) -> Link:
    found = [await probe(connection, timeout_s=60.0) for _ in range(_LINK_PROBES)]
    rates, trips = zip(*found, strict=True)
    return Link(8e-6 * median(rates), 1000 * min(trips))


def _typical(runs: Sequence[Sequence[Timed]]) -> list[Timed]:
    """The median of every figure of every pass, but for the first run's."""
    return [
        type(same[0])(
            **{f.name: median(getattr(one, f.name) for one in same) for f in fields(same[0])}
        )
        for same in zip(*runs[1:], strict=False)
    ]
