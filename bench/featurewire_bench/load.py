"""How much of a tail's own throughput a server gives to many clients: a model in, rates out.

Clients replay features that were coded before the clock starts, each its next request when the
last one is answered. The bare tail runs the same features in batches, in this process, on as many
threads as the server has.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

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


@dataclass(frozen=True)
class Load:
    """Requests a second of the bare tail, one by one and in batches, and of the server.

    threads: of the tail. requests: answered within the seconds. p50_ms, p99_ms: from a request's
    first message to its account.
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
    p50_ms: float
    p99_ms: float
    sent_bytes: int

    @property
    def of_bare(self) -> float:
        """The part of the batched tail's own throughput that clients get."""
        return self.served / self.bare_batched


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
        await _replay(server.address, offer, features, chunks, clients, min(seconds, 2.0))
        times = await _replay(server.address, offer, features, chunks, clients, seconds)
    tail = load_tail(model, split=split, task=task)
    torch.set_num_threads(threads)
    alone_s = _seconds_of(lambda: tail(features), seconds / 2)
    batch = stack([features] * BATCH)
    batched_s = _seconds_of(lambda: tail(batch), seconds / 2)
    return Load(
        model=model,
        clients=clients,
        threads=threads,
        seconds=seconds,
        requests=len(times),
        tail_ms=1000 * alone_s,
        bare_alone=1 / alone_s,
        bare_batched=BATCH / batched_s,
        served=len(times) / seconds,
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
) -> list[float]:
    """Seconds of each request that ended within the time.

    Raises:
        LoadError: none did.
    """
    ends = asyncio.get_running_loop().time() + seconds
    times: list[float] = []

    async def agree(_: Connection) -> pb.Handshake:
        return offer

    async def one() -> None:
        sessions = Sessions(address)
        route = Route(sessions)
        await sessions.open(10.0, agree)
        while asyncio.get_running_loop().time() < ends:
            started = time.perf_counter()
            request = Transcript(begin_of(features, ()))
            await route.begin(request)
            for chunk in chunks:
                await route.send(request, chunk)
            await route.finish(request)
            if asyncio.get_running_loop().time() < ends:
                times.append(time.perf_counter() - started)
        await route.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    if not times:
        raise LoadError(f"no request of {clients} clients was answered within {seconds:g} s")
    return times


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
