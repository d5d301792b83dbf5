"""Jobs run oldest first, with all that can share their pass, and each gets its own outcome."""

import asyncio
import threading

import pytest
from featurewire_server.scheduler import Scheduler


class Gate:
    """A job that holds the only worker until it is opened, so that others queue up behind it."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        self.opened.wait(10)


@pytest.fixture
def scheduler():
    made = Scheduler(1, max_batch=3, threads=1)
    yield made
    made.close()


@pytest.fixture
def passes():
    return []


async def alone(scheduler: Scheduler, work):
    return await scheduler.join(None, lambda items: [work()], None)


async def held(scheduler: Scheduler) -> tuple[Gate, asyncio.Task]:
    gate = Gate()
    task = asyncio.create_task(alone(scheduler, gate))
    await asyncio.to_thread(gate.entered.wait, 10)
    return gate, task


def doubled(passes):
    def work(items):
        passes.append(list(items))
        return [2 * item for item in items]

    return work


async def test_jobs_of_one_key_share_passes_of_bounded_size_and_the_oldest_goes_first(
    scheduler, passes
):
    gate, first = await held(scheduler)
    work = doubled(passes)
    jobs = [
        asyncio.create_task(scheduler.join(key, work, item))
        for key, item in [("a", 1), ("b", 2), ("a", 3), (None, 4), ("a", 5), ("a", 6), (None, 7)]
    ]
    await asyncio.sleep(0.05)
    gate.opened.set()
    ran = await asyncio.gather(*jobs)
    await first
    assert [one.result for one in ran] == [2, 4, 6, 8, 10, 12, 14]
    assert passes == [[1, 3, 5], [2], [4], [6], [7]]
    assert [one.shared for one in ran] == [3, 1, 3, 1, 3, 1, 1]
    assert all(one.queue_s > 0 for one in ran)


async def test_jobs_of_several_samples_share_a_pass_as_far_as_it_is_bounded(scheduler, passes):
    gate, first = await held(scheduler)
    sizes = [2, 1, 2, 5, 1]
    jobs = [
        asyncio.create_task(scheduler.join("a", doubled(passes), size, samples=size))
        for size in sizes
    ]
    await asyncio.sleep(0.05)
    gate.opened.set()
    await asyncio.gather(first, *jobs)
    assert passes == [[2, 1], [2], [5], [1]]


async def test_a_cancelled_job_is_never_run(scheduler, passes):
    gate, first = await held(scheduler)
    jobs = [
        asyncio.create_task(scheduler.join("a", doubled(passes), item)) for item in (1, 2, 3, 4)
    ]
    await asyncio.sleep(0.05)
    jobs[1].cancel()
    await asyncio.sleep(0.05)
    gate.opened.set()
    await asyncio.gather(first, *jobs, return_exceptions=True)
    assert passes == [[1, 3, 4]]


async def test_an_error_reaches_the_job_that_it_is_of(scheduler):
    def work(items):
        return [ValueError(str(item)) if item % 2 else item for item in items]

    gate, first = await held(scheduler)
    jobs = [asyncio.create_task(scheduler.join("a", work, item)) for item in (1, 2, 3)]
    await asyncio.sleep(0.05)
    gate.opened.set()
    one, two, three = await asyncio.gather(*jobs, return_exceptions=True)
    await first
    assert (str(one), two.result, str(three)) == ("1", 2, "3")


async def test_an_error_of_the_whole_pass_reaches_all_of_it_and_the_worker_goes_on(scheduler):
    def work(items):
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await scheduler.join("a", work, 1)
    assert (await alone(scheduler, lambda: 7)).result == 7


async def test_a_pass_that_is_not_full_waits_for_company_and_no_longer(scheduler, passes):
    async def later(item: int) -> int:
        await asyncio.sleep(0.05)
        return (await scheduler.join("a", doubled(passes), item, 600.0)).result

    early = scheduler.join("a", doubled(passes), 1, 600.0)
    assert [await task for task in asyncio.as_completed([early, later(2), later(3)])]
    assert [sorted(one) for one in passes] == [[1, 2, 3]]  # full: long before the ten minutes
    assert (await scheduler.join("a", doubled(passes), 4, 0.01)).result == 8
