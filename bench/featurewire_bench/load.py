"""How much of a tail's own throughput a server gives to many clients: a model in, rates out.

Clients replay features that were coded before the clock starts, each its next request when the
last one is answered. The bare tail runs the same features in batches, in this process, on as many
threads as the server has. Both are measured in turns, since a machine's speed wanders.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import truediv
from statistics import fmean, median, quantiles
from typing import NamedTuple

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire_client import SplitClient
from featurewire_client.connection import Connection
from featurewire_client.head_pass import Seconds
from featurewire_client.route import Route
from featurewire_client.sessions import Sessions
from featurewire_client.transcript import Transcript, begin_of
from featurewire_models import Features, load_tail
from featurewire_models.stacked import stack

from featurewire_bench.errors import LoadError
from featurewire_bench.process import ServerProcess

BATCH = 8  # half of sixteen clients: while one half is in the tail, the other half is decoded
TURNS = 5


@dataclass(frozen=True)
class Load:
    """Requests a second of the bare tail, one by one and in batches, and of the server.

    threads: of the tail. requests: answered within the seconds, all turns together. served and the
    bare rates: medians of the turns. of_bare: the part of the batched tail's own throughput that
    clients get, the median of each turn's ratio to the bare tail just before and after it. p50_ms,
    p99_ms: from a request's first message to its account.
    """

    model: str
    clients: int
    threads: int
    seconds: float
    requests: int
    tail_ms: float
    bare_alone: float
    bare_batched: float
    served: float
    of_bare: float
    p50_ms: float
    p99_ms: float
    sent_bytes: int


class Answered(NamedTuple):
    """When a request was answered, and how long that took, in seconds."""

    at_s: float
    took_s: float


async def run_load(
    model: str,
    split: str | None,
    task: str | None,
    inputs: dict[str, torch.Tensor],
    clients: int,
    seconds: float,
    threads: int,
    options: Sequence[str] = (),
) -> Load:
    """Measures one model.

    Raises:
        BenchError: the server does not start, or answers no request in time.
        ClientError, ModelError, CodecError: a request fails.
    """
    settings = ["--threads", str(threads), "--max-batch", str(BATCH), *options]
    with ServerProcess([model], settings) as server:
        async with SplitClient(server.address, model, split, task) as client:
            features, chunks = await _coded(client, inputs)
            split, task = client.split, client.task
            offer = client.offer
        tail = load_tail(model, split=split, task=task)
        torch.set_num_threads(threads)
        batch, turn_s = stack([features] * BATCH), seconds / TURNS
        await _replay(server.address, offer, features, chunks, clients, turn_s)
        alone_s = _seconds_of(lambda: tail(features), turn_s)
        batched = [BATCH / _seconds_of(lambda: tail(batch), turn_s / 2)]
        turns = []
        for _ in range(TURNS):
            turns.append(await _replay(server.address, offer, features, chunks, clients, turn_s))
            batched.append(BATCH / _seconds_of(lambda: tail(batch), turn_s / 2))
    served = [_rate(turn, min(clients, BATCH)) for turn in turns]
    times = [request.took_s for turn in turns for request in turn]
    return Load(
        model=model,
        clients=clients,
        threads=threads,
        seconds=seconds,
        requests=len(times),
        tail_ms=1000 * alone_s,
        bare_alone=1 / alone_s,
        bare_batched=median(batched),
        served=median(served),
        of_bare=median(map(truediv, served, map(fmean, pairwise(batched)))),
        p50_ms=1000 * median(times),
        p99_ms=1000 * _p99(times),
        sent_bytes=sum(chunk.ByteSize() for chunk in chunks),
    )


async def _coded(
    client: SplitClient, inputs: dict[str, torch.Tensor]
) -> tuple[Features, list[pb.Chunk]]:
    seconds = Seconds()
    features = await client.edge.features(inputs, seconds)
    chunks = [chunk async for chunk in client.edge.chunks(features, client.snr_db, seconds)]
    return features, chunks


async def _replay(
    address: str,
    offer: pb.Handshake,
    features: Features,
    chunks: list[pb.Chunk],
    clients: int,
    seconds: float,
) -> list[Answered]:
    """The requests that were answered within the time.

    Raises:
        LoadError: none was.
    """
    ends = time.perf_counter() + seconds
    answered: list[Answered] = []

    async def agree(_: Connection) -> pb.Handshake:
        return offer

    async def one() -> None:
        sessions = Sessions(address)
        route = Route(sessions)
        await sessions.open(10.0, agree)
        while (started := time.perf_counter()) < ends:
            request = Transcript(begin_of(features, ()))
            for chunk in chunks:
                await route.send(request, chunk)
            await route.finish(request)
            if (now := time.perf_counter()) < ends:
                answered.append(Answered(now, now - started))
        await route.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    if not answered:
        raise LoadError(f"no request of {clients} clients was answered within {seconds:g} s")
    return answered


def _rate(answered: list[Answered], first: int) -> float:
    """Requests a second behind the `first`, which had to fill the server: a pass of the tail.

    Raises:
        LoadError: there are no others.
    """
    ends = sorted(request.at_s for request in answered)
    if len(ends) <= first:
        raise LoadError(f"{len(ends)} requests were answered, too few to tell a rate")
    return (len(ends) - first) / (ends[-1] - ends[first - 1])


def _p99(times: list[float]) -> float:
    """Among what was measured, not beyond it, as few as there may be."""
    return quantiles(times, n=100, method="inclusive")[-1] if len(times) > 1 else times[0]


def _seconds_of(work: object, seconds: float) -> float:
    """The median time of a call, over so many seconds of them."""
    assert callable(work)
    times: list[float] = []
    began = time.perf_counter()
    with torch.inference_mode():
        while time.perf_counter() - began < seconds or len(times) < 3:
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
    return median(times)
