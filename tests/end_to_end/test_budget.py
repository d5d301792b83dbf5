"""A budget holds because the quality follows the link, down and up again; else it is said."""

import asyncio
import time

import numpy as np
import pytest
import torch
from featurewire.wire import parts
from featurewire_bench.relay import Relay
from featurewire_client import Budget, SplitClient, edge
from featurewire_client import client as client_module
from featurewire_client.link_estimate import Acknowledged, LinkEstimate
from featurewire_client.quality import QualityControl
from featurewire_client.rate_curve import Coded, RateCurve
from featurewire_client.session import Session
from featurewire_client.window import UnderWay
from featurewire_models import load_model, load_processor
from featurewire_models.llama import LlamaHead
from PIL import Image

MODEL = "tiny-dinov2"
FAST, SLOW = 0.25, 0.025  # Mbit/s: what a busy machine adds is little beside it
BUDGET_MS = 1700


PROMPT = "This function returns the value of the given name. " * 40
SPANS = 7


def choices(monkeypatch, after: int = 0, then=None) -> list[float]:
    """The qualities as they are chosen; `then` is called with the one `after` so many."""
    chosen: list[float] = []
    choose = QualityControl.choose

    def noted(self, *arguments):
        chosen.append(choose(self, *arguments))
        if len(chosen) == after:
            then()
        return chosen[-1]

    monkeypatch.setattr(QualityControl, "choose", noted)
    return chosen


async def first_token(client: SplitClient) -> None:
    async for _ in client.generate(PROMPT, max_tokens=1):
        pass


async def amid_a_prompt(client: SplitClient, link: Relay, sent_bytes: int) -> asyncio.Task[None]:
    """A prompt under way, so many of whose bytes the link has carried."""
    before = link.up_bytes
    task = asyncio.create_task(first_token(client))
    while link.up_bytes < before + sent_bytes:
        assert not task.done()
        await asyncio.sleep(0.01)
    return task


@pytest.fixture(scope="module")
def inputs() -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return load_processor(MODEL, "classification").inputs(image)


async def test_the_budget_holds_again_within_two_requests_when_a_link_slows_down_and_recovers(
    serve, inputs
):
    budget = Budget(latency_ms=BUDGET_MS)
    async with serve(MODEL) as server:
        with Relay(server.address, rate_mbit=FAST, rtt_ms=20) as link:
            async with SplitClient(link.address, MODEL, budget=budget) as client:

                async def run(count: int) -> list:
                    return [(await client.infer(inputs)).stats for _ in range(count)]

                before = (await run(4))[-2:]
                assert all(stats.total_ms <= BUDGET_MS for stats in before)
                link.set_rate(SLOW)
                slow = await run(5)
                assert slow[0].missed_ms == pytest.approx(slow[0].total_ms - BUDGET_MS)
                assert "beyond the budget" in str(slow[0])
                assert not slow[1].missed_ms
                assert all(stats.total_ms <= BUDGET_MS for stats in slow[1:])
                assert slow[-1].snr_db < before[-1].snr_db - 5
                assert slow[-1].sent_bytes < before[-1].sent_bytes / 2
                link.set_rate(FAST)
                after = await run(6)
                assert all(stats.total_ms <= BUDGET_MS for stats in after)
                assert after[-1].snr_db > slow[-1].snr_db + 5
                assert not after[-1].shortfall_ms


async def test_a_texts_budget_holds_again_within_two_requests_too(serve):
    prompt = PROMPT[: len(PROMPT) // 2]
    async with serve("tiny-llama3") as server:
        with Relay(server.address, rate_mbit=0.4, rtt_ms=20) as link:
            budget = Budget(latency_ms=BUDGET_MS)
            async with SplitClient(link.address, "tiny-llama3", budget=budget) as client:

                async def run(count: int) -> list:
                    every = []
                    for _ in range(count):
                        async for _ in client.generate(prompt, max_tokens=1):
                            pass
                        every.append(client.last_stats)
                    return every

                before = (await run(3))[-1]
                for _ in range(2):
                    link.set_rate(0.04)
                    slow = await run(4)
                    assert not any(stats.missed_ms for stats in slow[1:])
                    assert slow[-1].snr_db < before.snr_db - 5
                    link.set_rate(0.4)
                    after = await run(5)
                    assert not any(stats.missed_ms for stats in after)
                    assert after[-1].snr_db > slow[-1].snr_db + 5


async def test_the_first_request_holds_the_budget_too(serve, inputs):
    """The link is probed before anything is sent: one request of a command is the first one."""
    async with serve(MODEL) as server:
        with Relay(server.address, rate_mbit=SLOW, rtt_ms=20) as link:
            budget = Budget(latency_ms=3600)
            async with SplitClient(link.address, MODEL, budget=budget, snr_db=30) as client:
                assert client.link.bytes_per_s == pytest.approx(SLOW * 125_000, rel=0.3)
                stats = (await client.infer(inputs)).stats
    assert stats.snr_db < 28  # at 30 dB it takes almost 5 s


async def test_a_generation_says_that_its_budget_cannot_be_held(serve, caplog):
    async with serve("tiny-llama3") as server:
        with Relay(server.address, rate_mbit=0.05, rtt_ms=20) as link:
            budget = Budget(latency_ms=30)
            async with SplitClient(link.address, "tiny-llama3", budget=budget) as client:
                async for _ in client.generate("This function returns the value", max_tokens=2):
                    pass
                assert client.last_stats.shortfall_ms > 0
    assert any("the budget cannot be held" in line for line in caplog.messages)


async def test_a_budget_that_the_lowest_quality_cannot_hold_is_said(serve, inputs, caplog):
    async with serve(MODEL) as server:
        with Relay(server.address, rate_mbit=SLOW, rtt_ms=20) as link:
            budget = Budget(latency_ms=40, least_snr_db=15)
            async with SplitClient(link.address, MODEL, budget=budget) as client:
                for _ in range(3):
                    stats = (await client.infer(inputs)).stats
    assert stats.shortfall_ms > 0
    assert stats.snr_db == 15
    assert any("the budget cannot be held" in line for line in caplog.messages)


async def test_a_budget_of_bytes_bounds_what_is_sent(serve, inputs):
    async with serve(MODEL) as server:
        async with SplitClient(server.address, MODEL, budget=Budget(request_bytes=1500)) as client:
            sizes = [(await client.infer(inputs)).stats.sent_bytes for _ in range(8)]
        assert all(size <= 1500 for size in sizes[5:])
        assert sizes[-1] > 1200


async def test_a_prompt_that_takes_more_than_thought_is_coded_worse_span_by_span_and_the_next_alike(
    serve, monkeypatch
):
    monkeypatch.setattr(client_module, "known_rates", lambda _: {5.0: 0.2, 25.0: 1.2})  # a third
    chosen = choices(monkeypatch)
    async with serve("tiny-llama3") as server:
        budget = Budget(request_bytes=6000)
        async with SplitClient(server.address, "tiny-llama3", budget=budget) as client:
            await first_token(client)
            assert chosen == sorted(chosen, reverse=True)
            assert chosen[-1] < chosen[0] - 2
            first, chosen[:] = list(chosen), []
            await first_token(client)
            assert len(set(chosen)) == 1
            assert chosen[0] < first[0]
            assert not client.last_stats.missed_bytes


async def test_a_steady_link_gives_a_text_one_quality(serve, monkeypatch):
    """Its last span, whose quality later tokens have, does not get what the first ones left."""
    chosen, texts = choices(monkeypatch), []
    async with serve("tiny-llama3") as server:
        with Relay(server.address, rate_mbit=0.04, rtt_ms=30) as link:
            budget = Budget(latency_ms=1500)
            async with SplitClient(link.address, "tiny-llama3", budget=budget) as client:
                for _ in range(6):
                    chosen.clear()
                    await first_token(client)
                    texts.append(set(chosen))
    # a machine may be slow amid one of them
    assert sum(len(qualities) == 1 for qualities in texts[1:]) >= 3


async def test_a_link_that_slows_tenfold_amid_a_prompt_lowers_the_quality_of_what_is_left(
    serve, monkeypatch
):
    fast, slow = 0.4, 0.04
    async with serve("tiny-llama3") as server:
        with Relay(server.address, rate_mbit=fast, rtt_ms=10) as link:
            budget = Budget(latency_ms=3000)
            async with SplitClient(link.address, "tiny-llama3", budget=budget) as client:
                for _ in range(2):
                    await first_token(client)
                before = client.last_stats
                chosen = choices(monkeypatch, after=2, then=lambda: link.set_rate(slow))
                await first_token(client)
                after = client.last_stats
    assert len(chosen) == SPANS
    # two more may be chosen before the link has told; what time is left at the end is made use of
    assert min(chosen[4:]) < max(chosen[:2]) - 5
    assert after.snr_db == chosen[-1]
    assert not after.missed_ms
    assert after.sent_bytes < 0.9 * before.sent_bytes


def large_images(count: int = 1) -> dict[str, torch.Tensor]:
    """Of 64 x 64 patches each."""
    generator = torch.Generator().manual_seed(0)
    return {"pixel_values": torch.randn(count, 3, 256, 256, generator=generator)}


async def test_a_link_that_slows_tenfold_amid_a_long_feature_lowers_the_quality_of_what_is_left(
    serve, monkeypatch
):
    monkeypatch.setattr(parts, "PART_POINTS", 1 << 15)  # eight of this feature
    fast, slow = 0.8, 0.08
    async with serve(MODEL) as server:
        with Relay(server.address, rate_mbit=fast, rtt_ms=10) as link:
            budget = Budget(latency_ms=5000)
            async with SplitClient(link.address, MODEL, budget=budget, snr_db=30) as client:
                await client.infer(large_images())
                chosen = choices(monkeypatch, after=2, then=lambda: link.set_rate(slow))
                after = (await client.infer(large_images())).stats
    assert len(chosen) == 8
    assert min(chosen[4:]) < max(chosen[:2]) - 5
    assert after.snr_db == chosen[-1]
    assert not after.missed_ms


def control_of(budget: Budget) -> tuple[QualityControl, LinkEstimate]:
    """One that chooses by a bit for 10 dB and three for 22 dB, over a link of 10,000 bytes/s."""
    link = LinkEstimate()
    link.know(10_000.0, 1e-4)
    return QualityControl(budget, 30.0, link, {10.0: 1.0, 22.0: 3.0}), link


def test_amid_a_request_quality_stays_while_it_fits_and_never_rises():
    """What a margin left would all be the last part's, or the last span's and later tokens'."""
    control, link = control_of(Budget(latency_ms=1000))
    first = control.choose(20_000, 0.0)
    assert first == pytest.approx(22, abs=0.3)
    # half of it is left, 3750 bytes: the margin allows 3400 or 3600, next to none 4050
    for spent_s in (0.2, 0.52, 0.55):
        assert control.choose(10_000, spent_s, sent_bytes=3750) == first
    fallen = control.choose(10_000, 0.7, sent_bytes=3750)
    assert fallen < first - 2
    for _ in range(2):
        link.know(1e6, 1e-4)
    assert control.choose(5000, 0.7, sent_bytes=5000) == fallen
    assert control.choose(20_000, 0.0) > fallen + 2


def test_a_request_begins_with_the_quality_that_all_of_the_one_before_it_had():
    control, _ = control_of(Budget(latency_ms=1000))
    control.choose(20_000, 0.0)
    control.choose(10_000, 0.7, sent_bytes=3750)
    control.learn([Coded(22.0, 10_000, 3750), Coded(10.0, 10_000, 1250)], 5048, 0, 0.0)
    control.ended(890)
    assert control.choose(20_000, 0.0) == pytest.approx(16, abs=1)


@pytest.mark.parametrize(("took_ms", "best"), [(1400, 14), (600, 20)])
def test_a_text_sends_no_more_than_the_one_before_it_took_in_the_time(took_ms, best):
    """The wire waits between spans: the link's rate tells too little."""
    control, _ = control_of(Budget(latency_ms=1000))
    control.choose(20_000, 0.0)
    control.choose(10_000, 0.4, sent_bytes=2500)
    control.learn([Coded(22.0, 2, 1), Coded(16.0, 20_000, 4999)], 5048, 0, 0.0)
    control.ended(took_ms)
    assert control.choose(20_000, 0.0) <= best


def test_what_was_held_is_no_shortfall_and_what_was_sent_beyond_the_budget_is_said():
    control, _ = control_of(Budget(latency_ms=100, request_bytes=400))
    control.choose(20_000, 0.0)
    assert control.shortfall_ms > 0
    assert control.shortfall_bytes > 0
    control.learn([Coded(5.0, 20_000, 352)], 400, 0, 0.0)
    control.ended(99)
    assert (control.shortfall_ms, control.shortfall_bytes) == (0, 0)
    assert (control.missed_ms, control.missed_bytes) == (0, 0)
    control.choose(4000, 0.0)
    assert control.shortfall_bytes == 0
    control.learn([Coded(5.0, 4000, 400)], 448, 0, 0.0)
    control.ended(120)
    assert (control.missed_ms, control.missed_bytes, control.shortfall_bytes) == (20, 48, 0)


def test_a_budget_of_bytes_is_short_only_of_what_is_beyond_it():
    """At the lowest quality a point takes a bit: 1000 bytes and the framing, without the margin."""
    for allowed, short in ((1090, 0), (1048, 0), (900, 148)):
        budget = Budget(request_bytes=allowed, least_snr_db=10)
        control = QualityControl(budget, 30.0, LinkEstimate(), {10.0: 1.0, 22.0: 3.0})
        control.choose(8000, 0.0)
        assert control.shortfall_bytes == short


@pytest.mark.parametrize("task", ["classification", "segmentation"])
async def test_a_feature_in_parts_gives_what_it_gives_whole(serve, monkeypatch, task):
    """Of several tensors, too, with two samples each."""
    monkeypatch.setattr(parts, "PART_POINTS", 1 << 15)
    monkeypatch.setattr(edge, "PART_POINTS", 1 << 15)
    inputs = large_images(2)
    expected = load_model(MODEL, task)(inputs).logits
    begun = []
    begin = Session.begin

    def noted(self, announced):
        begun.append(announced)
        begin(self, announced)

    monkeypatch.setattr(Session, "begin", noted)
    async with serve(MODEL) as server:
        options = {"task": task, "budget": Budget(latency_ms=60_000, most_snr_db=40)}
        async with SplitClient(server.address, MODEL, snr_db=40, **options) as client:
            logits = (await client.infer(inputs)).output.logits
    assert begun[0].parts
    error = ((logits - expected) ** 2).sum() / (expected**2).sum()
    assert error < 1e-3


async def test_a_slow_head_is_not_taken_for_a_slow_link(serve, monkeypatch):
    """Its spans come one by one: what is under way between them is nothing."""
    run = LlamaHead.__call__

    def slowly(self, *arguments, **options):
        time.sleep(0.04)
        return run(self, *arguments, **options)

    monkeypatch.setattr(LlamaHead, "__call__", slowly)
    ids = {"input_ids": load_processor("tiny-llama3").inputs(PROMPT)["input_ids"]}
    ids["logits_to_keep"] = torch.tensor(1)
    async with serve("tiny-llama3") as server:
        with Relay(server.address, rate_mbit=20, rtt_ms=20) as link:
            budget = Budget(latency_ms=2500)
            async with SplitClient(link.address, "tiny-llama3", budget=budget, snr_db=30) as client:
                stats = [(await client.infer(ids)).stats for _ in range(8)]
                assert client.link.bytes_per_s > 300_000
    assert all(each.snr_db > 29.5 for each in stats)
    assert not any(each.shortfall_ms for each in stats)


async def test_the_time_of_a_large_answer_is_reckoned_with(serve):
    """A map of classes takes as long as a feature: only a lower quality leaves time for both."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    inputs = load_processor(MODEL, "segmentation").inputs(image)
    async with serve(MODEL) as server:
        with Relay(server.address, rate_mbit=FAST, rtt_ms=20) as link:

            async def run(count: int, latency_ms: float) -> list:
                options = {"budget": Budget(latency_ms=latency_ms), "task": "segmentation"}
                async with SplitClient(link.address, MODEL, **options) as client:
                    return [(await client.infer(inputs)).stats for _ in range(count)]

            held = await run(5, 1000)
            answer_ms = held[-1].received_bytes / (FAST * 125)
            missed = await run(4, 0.8 * answer_ms)
    assert answer_ms > 300
    assert not any(stats.missed_ms for stats in held[2:])
    assert all(stats.missed_ms for stats in missed)
    assert any(stats.shortfall_ms for stats in missed[1:])


async def test_what_a_broken_connection_repeats_counts_for_no_later_request(serve, inputs):
    async with serve(MODEL) as server:
        with Relay(server.address, rate_mbit=FAST, rtt_ms=20) as link:
            budget = Budget(request_bytes=4000)
            async with SplitClient(link.address, MODEL, budget=budget) as client:
                before = [(await client.infer(inputs)).stats for _ in range(4)][-1]
                start = link.up_bytes
                task = asyncio.create_task(client.infer(inputs))
                while link.up_bytes < start + 1500:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                link.disconnect()
                broken = (await task).stats
                after = (await client.infer(inputs)).stats
    assert broken.replays == 1
    assert broken.sent_bytes > before.sent_bytes
    assert after.sent_bytes == pytest.approx(before.sent_bytes, rel=0.02)


async def test_a_connection_that_breaks_while_the_next_quality_waits_for_it_is_mended(serve):
    async with serve("tiny-llama3") as server:
        with Relay(server.address, rate_mbit=0.05, rtt_ms=10) as link:
            budget = Budget(latency_ms=40_000)
            async with SplitClient(
                link.address, "tiny-llama3", budget=budget, snr_db=30, timeout_s=30
            ) as client:
                task = await amid_a_prompt(client, link, 6000)
                link.disconnect()
                link.set_rate(10)
                await task
                assert client.last_stats.replays == 1


async def test_a_prompt_that_was_left_holds_up_no_later_one(serve):
    async with serve("tiny-llama3") as server:
        with Relay(server.address, rate_mbit=0.1, rtt_ms=10) as link:
            budget = Budget(latency_ms=3000)
            async with SplitClient(
                link.address, "tiny-llama3", budget=budget, timeout_s=30
            ) as client:
                task = await amid_a_prompt(client, link, 2000)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                link.set_rate(10)
                await first_token(client)
                assert client.last_stats.tokens == 1


async def test_a_quality_waits_until_little_enough_is_under_way_or_all_of_it_is_lost():
    link, sent = LinkEstimate(), [900, 800, 700]
    link.know(10_000.0, 0.05)
    control = QualityControl(Budget(latency_ms=2500), 20.0, link, {})

    def under_way() -> int:
        return sum(sent)

    waiting = asyncio.create_task(control.settle(under_way))  # 10 000 a second x (0.05 + 0.05)
    await asyncio.sleep(0)
    for _ in range(2):
        assert not waiting.done()
        assert under_way() > 1000
        sent.pop(0)
        link.changed()
        await asyncio.sleep(0.01)
    await asyncio.wait_for(waiting, 10)
    sent.append(5000)
    waiting = asyncio.create_task(control.settle(under_way))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    sent.clear()
    link.changed()
    await asyncio.wait_for(waiting, 10)
    free = QualityControl(Budget(request_bytes=9), 20.0, link, {})
    await asyncio.wait_for(free.settle(lambda: 50_000), 10)


def test_what_is_under_way_takes_its_part_of_the_time():
    link = LinkEstimate()
    link.know(10_000.0, 1e-4)
    control = QualityControl(Budget(latency_ms=1000), 25.0, link, {10.0: 1.0, 22.0: 3.0})
    free = control.choose(20_000, 0.0)
    assert control.choose(20_000, 0.0, under_way_bytes=4000) < free - 3
    control.choose(20_000, 0.0, under_way_bytes=10_000)
    assert control.shortfall_ms > 0


def test_an_estimate_tells_rate_and_round_trip_apart(monkeypatch):
    clock = 0.0
    monkeypatch.setattr("featurewire_client.window.time.perf_counter", lambda: clock)
    link, rate, trip = LinkEstimate(), 10_000.0, 0.05
    for _ in range(3):
        link.begin()
        under_way = UnderWay()
        for size in (100, 1000, 1000):
            under_way.sent(size)
        read = clock + trip / 2
        for size in (100, 1000, 1000):
            read += size / rate
            clock = read + trip / 2
            taken, sent, now = under_way.acknowledged(trip)
            link.acknowledged(Acknowledged(taken, sent, read, now))
    assert link.bytes_per_s == pytest.approx(rate, rel=0.05)
    assert link.round_trip_s == pytest.approx(trip, rel=0.25)


def test_a_curve_passes_through_what_was_seen_and_is_inverted():
    curve = RateCurve({15.0: 1.0, 25.0: 2.5})
    curve.see(20.0, 1.2)
    assert curve.bits(20.0) == pytest.approx(1.2)
    assert curve.bits(26.0) > curve.bits(21.0) > curve.bits(12.0) > curve.bits(2.0) > 0
    for bits in (0.3, 1.0, 2.0):
        assert curve.bits(curve.snr_db(bits, 0, 40)) == pytest.approx(bits, rel=0.02)
    assert curve.snr_db(1e-6, 5, 30) == 5
    assert curve.snr_db(100.0, 5, 30) == pytest.approx(30, abs=0.02)


def test_quality_falls_at_once_and_rises_only_where_it_is_worth_it():
    control, link = control_of(Budget(latency_ms=1000))
    first = control.choose(20_000, 0.0)
    fallen = control.choose(20_000, 0.02)  # a little less time
    assert fallen < first
    assert control.choose(20_000, 0.0) == fallen  # a little more: not worth a change
    for _ in range(2):
        link.know(1e6, 1e-4)
    risen = control.choose(20_000, 0.0)
    assert first < risen <= first + 8.0
    link.know(1000.0, 1e-4)
    assert control.choose(20_000, 0.0) == 5.0
    assert control.shortfall_ms > 0


@pytest.mark.parametrize(
    ("took_ms", "rate", "held"),
    [(120, 1500.0, True), (120, 500.0, False), (160, 1500.0, False)],
    ids=["a request held it", "the link has fallen since", "no request held it"],
)
def test_a_budget_that_is_held_is_not_said_to_be_missed(took_ms, rate, held):
    """A few bytes tell a link of 8 kB/s as one of 2: 400 of them would take 200 ms."""
    link = LinkEstimate()
    link.know(2000.0, 1e-4)
    control = QualityControl(Budget(latency_ms=150), 5.0, link, {5.0: 1.0, 17.0: 3.0})
    control.choose(3200, 0.01)
    assert control.shortfall_ms > 40
    control.learn([Coded(5.0, 3200, 400)], 410, 0, 0.001)
    control.ended(took_ms)
    link.know(rate, 1e-4)
    snr_db = control.choose(3200, 0.01)
    assert (control.shortfall_ms == 0) == held
    assert snr_db == 5.0  # it rises only by what is worth it
    if held:
        control.learn([Coded(5.0, 3200, 400)], 410, 0, 0.001)
        control.ended(30)
        for _ in range(2):
            link.know(4000.0, 1e-4)
        assert control.choose(6400, 0.01) == 5.0  # of another size: nothing is known
        assert control.shortfall_ms > 40
        assert control.choose(3200, 0.01, waiting_bytes=1) == 5.0  # what is left of a request
        assert control.choose(3200, 0.01) > 7.0


def test_each_quality_that_a_prompt_had_is_learned_by_what_its_own_spans_came_to():
    """At 20 dB the first half took 2 bits a point, at 10 dB the second one 1."""
    control = QualityControl(Budget(request_bytes=9), 20.0, LinkEstimate(), {10.0: 0.5, 22.0: 3.0})
    spans = [Coded(snr_db, 4000, size) for snr_db, size in ((20, 990), (20, 1010), (10, 500))]
    control.learn([*spans, Coded(10, 2000, 250)], 3000, 0, 0.1)
    assert control._curve.bits(20) == pytest.approx(2.0)
    assert control._curve.bits(10) == pytest.approx(1.0)
    control.learn([], 50, 0, 0.1)
    assert control._curve.bits(20) == pytest.approx(2.0)
    assert control._framing == 250


def chunks(sizes, sent, rate, trip, late=()):
    """How they are acknowledged over a link, each sent at its time."""
    free = 0.0
    for number, (size, when) in enumerate(zip(sizes, sent, strict=True)):
        free = max(when, free) + size / rate
        yield Acknowledged(size, when, free + trip / 2, free + trip, number in late)


def estimated(link: LinkEstimate, *requests) -> float:
    for request in requests:
        link.begin()
        for chunk in request:
            link.acknowledged(chunk)
    return link.bytes_per_s


def test_pauses_between_chunks_say_nothing_of_the_link():
    """A slow head sends some chunks each 50 ms; the link takes a few ms for them."""
    link, rate, trip = LinkEstimate(), 1_000_000.0, 0.02
    link.know(rate, trip)
    for sizes, near in (((256, 3000), 0.02), ((256, 744), 0.7), ((200,), 0.95)):
        sent = [when for when in np.arange(8) * 0.05 for _ in sizes]
        paced = [list(chunks(sizes * 8, sent, rate, trip)) for _ in range(6)]
        assert estimated(link, *paced) == pytest.approx(rate, rel=near), sizes
        assert link.round_trip_s == pytest.approx(trip, rel=0.05)


def test_what_comes_in_one_packet_does_not_tell_how_fast_it_came():
    link, trip = LinkEstimate(), 0.02
    link.know(30_000.0, trip)
    first, second = chunks((256, 135), (0.0, 0.0), 30_000.0, trip)
    together = second._replace(read_s=first.read_s + 1e-4)
    assert estimated(link, *[[first, together]] * 4) == pytest.approx(30_000, rel=0.05)


def test_chunks_that_wait_for_a_busy_server_say_nothing_of_the_link():
    link, rate, trip = LinkEstimate(), 1_000_000.0, 0.02
    link.know(rate, trip)
    first, *held = chunks((2560, *(8192,) * 9), [0.0] * 10, rate / 100, trip, late=range(1, 10))
    first = first._replace(answered_s=2560 / rate + trip)
    assert estimated(link, *[[first, *held]] * 4) > rate / 2
    assert estimated(link, *[list(chunks((256, 8192), [0, 0], 10_000, trip))] * 2) < rate / 50


@pytest.mark.parametrize(("before", "after"), [(3000.0, 1e6), (1e6, 3000.0)])
def test_a_link_that_changes_shows_in_single_chunks_too(before, after):
    link, trip = LinkEstimate(), 0.02
    link.know(before, trip)
    small = [list(chunks((200,), (0.0,), after, trip)) for _ in range(3)]
    assert estimated(link, *small) == pytest.approx(min(after, 8 * 200 / trip), rel=0.1)


def test_what_is_far_from_anything_seen_is_thought_to_take_more():
    seen, unseen = RateCurve({15.0: 1.0, 25.0: 2.5}), RateCurve({15.0: 1.0, 25.0: 2.5})
    seen.see(30.0, 3.33)
    assert unseen.bits(13.0) == pytest.approx(0.707, abs=0.01)
    assert 1.5 * unseen.bits(13.0) < seen.bits(13.0) < 2 * unseen.bits(13.0)
