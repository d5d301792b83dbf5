"""Where torch runs on the server: the oldest job first, with all that can share its pass.

A session has one job here at a time, so the order of arrival is fair to all of them, and nothing
that is bounded, a step, a span of a prompt or a one-shot feature, waits for more than one of
each other session.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any, Generic, TypeVar

import torch
from featurewire.wire.runtime import use_threads

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ran(Generic[Result]):
    """A job's result; seconds that it waited for a worker, and that its pass took.

    `shared`: jobs of that pass.
    """

    result: Result
    queue_s: float
    run_s: float
    shared: int = 1


@dataclass(eq=False)
class _Job:
    work: Callable[[list[Any]], Sequence[Any]]
    item: Any
    key: Hashable | None
    wait_s: float
    samples: int
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Ran[Any]]"
    submitted: float = field(default_factory=time.perf_counter)

    def settle(self, result: Any, started: float, shared: int) -> None:
        """Hands the result over to the event loop's thread."""
        ran = Ran(result, started - self.submitted, time.perf_counter() - started, shared)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self.loop.call_soon_threadsafe(self._deliver, ran)

    def _deliver(self, ran: Ran[Any]) -> None:
        if self.future.done():  # cancelled meanwhile
            return
        if isinstance(ran.result, Exception):
            self.future.set_exception(ran.result)
        else:
            self.future.set_result(ran)


class Scheduler:
    """Worker threads for torch, never the event loop's.

    Args:
        workers: passes that run at once.
        max_batch: samples of a pass that jobs share; 1 never lets any share one.
        threads: of one pass's operators.
    """

    def __init__(self, workers: int, max_batch: int, threads: int) -> None:
        self._max_batch = max_batch
        self._intraop = threads
        self._jobs: deque[_Job] = deque()
        self._changed = Condition()
        self._closed = False
        self._threads = [
            Thread(target=self._work, name=f"tail-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    async def join(
        self,
        key: Hashable | None,
        work: Callable[[list[Item]], Sequence[Result | Exception]],
        item: Item,
        wait_s: float = 0.0,
        samples: int = 1,
    ) -> Ran[Result]:
        """Runs one job together with others of the same key.

        Args:
            key: jobs of equal keys have interchangeable `work`; None: the job runs by itself.
            work: items in, a result or an exception for each out, in their order.
            wait_s: how long a pass that is not full waits for more, from the job's arrival.
            samples: of this job.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Ran[Result]] = loop.create_future()
        job = _Job(work, item, key, wait_s, samples, loop, future)
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()
        return await future

    def _work(self) -> None:
        use_threads(self._intraop)
        with torch.inference_mode():
            while self._run_next():
                pass

    def _run_next(self) -> bool:
        """Runs the next pass, and forgets it: an idle worker keeps no features. False: closed."""
        batch = self._take()
        started = time.perf_counter()
        try:
            results = batch[0].work([job.item for job in batch]) if batch else []
        except Exception as error:
            results = [error] * len(batch)
        for job, result in zip(batch, results, strict=True):
            job.settle(result, started, len(batch))
        return bool(batch)

    def _take(self) -> list[_Job]:
        """The next pass's jobs; none once closed."""
        with self._changed:
            while not self._closed:
                self._drop_cancelled()
                batch, wait_s = self._ready()
                for job in batch:
                    self._jobs.remove(job)
                if batch:
                    return batch
                self._changed.wait(wait_s)
            return []

    def _ready(self) -> tuple[list[_Job], float | None]:
        """The oldest job that waits for no more company, with its own; else how long none does."""
        now, soonest = time.perf_counter(), None
        for first in self._jobs:
            (batch, full), left_s = self._company(first), first.submitted + first.wait_s - now
            if full or left_s <= 0:
                return batch, None
            soonest = left_s if soonest is None else min(soonest, left_s)
        return [], soonest

    def _drop_cancelled(self) -> None:
        for job in [job for job in self._jobs if job.future.cancelled()]:
            self._jobs.remove(job)

    def _company(self, first: _Job) -> tuple[list[_Job], bool]:
        """The oldest jobs that can share a pass with this one, and whether it has room for none."""
        if first.key is None:
            return [first], True
        company, samples = list[_Job](), 0
        for job in self._jobs:
            if job.key == first.key:
                if company and samples + job.samples > self._max_batch:
                    return company, True
                company.append(job)
                samples += job.samples
        return company, samples >= self._max_batch

    def close(self) -> None:
        """Takes no further job; a pass under way ends by itself."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
