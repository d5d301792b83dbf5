"""The benches of sessions give whole rows that add up; each runs here as small as it can be."""

import asyncio
import json
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.runtime import cores, use_threads
from featurewire_bench import load, overlap, plan_accuracy, sessions
from featurewire_bench.errors import BenchError, LoadError
from featurewire_bench.overlap import Work
from featurewire_bench.pipeline import ideal_ms
from featurewire_bench.plan_accuracy import Figure, Predicted
from featurewire_bench.process import ServerProcess
from featurewire_bench.random_models import prompt_of, random_dinov2, random_llama
from featurewire_bench.stage_time import StageTimer
from featurewire_client.span import SPAN_TOKENS
from featurewire_client.stats import InferStats
from featurewire_models import describe

TOKENS = SPAN_TOKENS + 9  # two spans
STATS = InferStats(TOKENS * 64, 2000, 500, *[1.0] * 6)
MBIT, RTT_MS, CLIENTS, SECONDS = 50.0, 10.0, 3, 1.0


def small_works(folder: Path) -> list[Work]:
    ids = {"input_ids": torch.arange(TOKENS)[None] * 7 % 4096}
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    llama = random_llama(folder, 64, 2)
    return [
        Work("prompt", llama, "layers.1", ids, prompt_of(TOKENS)),
        Work("text", llama, "layers.1", ids | overlap.LAST),
        Work("feature", random_dinov2(folder, 64, 2, 56), "layers.1", {"pixel_values": pixels}),
    ]


@pytest.fixture(scope="module")
def found() -> sessions.Sessions:
    """A run of everything, over one link."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "works", small_works)
        patch.setattr(overlap, "REPEATS", 1)
        patch.setattr(load, "TURNS", 1)
        patch.setattr(sessions, "PLAN_RUNS", 1)
        patch.setattr(plan_accuracy, "TURNS", 2)
        patch.setattr(sessions, "PLANNED", (("tiny-dinov2", "classification", 0),))
        patch.setattr(sessions, "OVERLAP_MBIT", (MBIT,))
        patch.setattr(sessions, "PLAN_MBIT", (MBIT,))
        patch.setattr(sessions, "THREADS", (1,))
        patch.setattr(sessions, "CHANNELS", (64,))
        patch.setattr(
            sessions, "random_dinov2", lambda folder, *_: random_dinov2(folder, 64, 2, 224)
        )
        run = sessions.run_sessions(RTT_MS, 15.0, CLIENTS, SECONDS, lambda step: None)
        try:
            return asyncio.run(run)
        finally:
            torch.set_num_threads(threads)


def all_positive(row: object) -> bool:
    figures = [value for value in asdict(row).values() if isinstance(value, float | int)]
    return all(math.isfinite(value) and value > 0 for value in figures)


def test_the_ideal_of_a_feature_overlaps_encoding_wire_and_decoding_alone():
    head, encode, decode, tail = 10.0, 30.0, 20.0, 40.0
    stages = (head, encode, decode, tail)
    # the wire is the longest of the three, then encoding, then decoding: 10 + x + 40 + 5
    assert ideal_ms(stages, 100.0, 5.0, spans=0, cores=2) == 155.0
    assert ideal_ms(stages, 25.0, 5.0, spans=0, cores=2) == 85.0
    assert ideal_ms((head, encode, 35.0, tail), 25.0, 5.0, spans=0, cores=2) == 90.0


def test_the_ideal_of_a_prompt_is_its_slowest_part_and_one_span_of_the_others():
    stages = (10.0, 30.0, 20.0, 40.0)
    # the wire: 200, 5 of round trip, and a quarter of 10 + 30 + 20 + 40
    assert ideal_ms(stages, 200.0, 5.0, spans=4, cores=2) == 230.0
    # two cores for 100 ms of work: 50 and 5, and a quarter of all but the longest, 10 + 30 + 20 + 8
    assert ideal_ms(stages, 8.0, 5.0, spans=4, cores=2) == 72.0
    # enough cores: the tail's own 40
    assert ideal_ms(stages, 8.0, 5.0, spans=4, cores=4) == 62.0
    # one core does all 100 ms by itself
    assert ideal_ms(stages, 8.0, 5.0, spans=4, cores=1) == 122.0


def test_overlap_measures_texts_and_a_feature_and_says_what_it_holds_them_against(found):
    assert [(row.what, row.rate_mbit) for row in found.overlap] == [
        ("prompt", MBIT),
        ("text", MBIT),
        ("feature", MBIT),
    ]
    for row, spans in zip(found.overlap, (2, 2, 0), strict=True):
        assert all_positive(row)
        stages = (row.head_ms, row.encode_ms, row.decode_ms, row.tail_ms)
        assert row.wire_ms == pytest.approx(8e-3 * row.sent_bytes / MBIT)
        assert row.sum_ms == pytest.approx(sum(stages) + row.wire_ms + RTT_MS)
        alone = ideal_ms(stages, row.wire_ms, RTT_MS, spans, cores())
        assert row.idle_ideal_ms == pytest.approx(alone)
        assert row.over_ideal == row.measured_ms / row.ideal_ms
        assert row.over_idle_ideal == row.measured_ms / row.idle_ideal_ms
        assert row.measured_ms > RTT_MS  # the link is in the way
    assert found.overlap[0].sent_bytes < TOKENS * 64 * 2  # less than float16: it is coded


def test_load_counts_what_many_clients_get_against_the_bare_tail(found):
    assert [row.model for row in found.load] == ["tiny-dinov2", "random-dinov2-64"]
    for row in found.load:
        assert all_positive(row)
        assert (row.clients, row.seconds) == (CLIENTS, SECONDS)
        assert row.p99_ms >= row.p50_ms
        assert row.of_bare == pytest.approx(row.served / row.bare_batched)  # of one turn
        assert row.tail_ms == pytest.approx(1000 / row.bare_alone)
        # the slower half of what so many clients can have had answered in the time
        assert row.requests / 2 * row.p50_ms <= CLIENTS * SECONDS * 1000


def test_every_split_point_is_predicted_and_run_over_each_link(found):
    splits = describe("tiny-dinov2").splits
    assert [(row.split, row.rate_mbit) for row in found.plan] == [(one, MBIT) for one in splits]
    assert sum(row.is_best for row in found.plan) == 1
    assert all(row.total.predicted_ms > 0 and row.total.measured_ms > 0 for row in found.plan)


def test_all_of_it_becomes_tables_and_json(found):
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    lines = sessions.report(found).splitlines()
    titles = [line for line in lines if line.startswith("#")]
    assert titles == ["### Overlap", "### Load", "### Predictions"]
    rows = sum(len(content[part]) for part in ("overlap", "load", "plan"))
    assert sum(line.startswith("|") for line in lines) == rows + 3 * 2  # header and rule of each
    for row in found.load:
        assert f"| {row.model} | {CLIENTS} | 1 |" in sessions.report(found)


async def test_load_that_gets_no_answer_at_all_is_said():
    with pytest.raises(LoadError, match="no request of 0 clients was answered within 1 s"):
        await load._replay("127.0.0.1:9", pb.Handshake(), None, [], 0, 1.0)


def test_a_rate_is_told_by_what_was_answered_behind_the_first_pass():
    ends = [1.0, 1.0, 3.0, 3.0, 5.0, 5.0]  # two at once, every two seconds
    assert load._rate([load.Answered(at, 2.0) for at in ends], first=2) == 1.0
    with pytest.raises(LoadError, match="2 requests were answered, too few"):
        load._rate([load.Answered(at, 2.0) for at in ends[:2]], first=2)


def test_a_stage_is_told_by_its_threads_alone():
    timer = StageTimer([os.getpid()])
    with pytest.raises(BenchError, match="does not tell"):
        timer.stages_ms()  # no thread of a stage has run
    before = time.thread_time()
    while time.thread_time() - before < 0.05:
        pass
    taken = []

    def work() -> None:
        while time.thread_time() < 0.05:
            pass
        taken.append(1000 * time.thread_time())

    with ThreadPoolExecutor(1, "encode", initializer=use_threads, initargs=(1,)) as threads:
        threads.submit(work).result()
        head, encode, decode, tail = timer.stages_ms()
    assert max(head, decode, tail) < 40 < encode < 2 * taken[0]


async def test_a_run_has_the_time_that_every_stage_had_in_it(tmp_path):
    _, text, _ = small_works(tmp_path)
    with ServerProcess([str(text.model)], ["--threads", "1"]) as server:
        run = await overlap._run(
            text, server.address, 15.0, server.id, lambda: (1.0, 2.0, 3.0, 4.0)
        )
    head, encode, _, tail = run.stages_ms  # few features are decoded on the event loop's thread
    assert min(head, encode, tail) > 0
    assert run.alone_ms == (1.0, 2.0, 3.0, 4.0)


def test_the_ideal_is_of_the_requests_own_stages_and_that_of_idle_cores_of_those_before_it():
    text = Work("text", Path("model"), "layers.1", {"input_ids": torch.zeros(1, TOKENS)})
    stats = [replace(STATS, total_ms=total_ms) for total_ms in (100.0, 140.0, 90.0)]
    busy, alone = (20.0, 8.0, 4.0, 30.0), (10.0, 4.0, 2.0, 15.0)
    row = overlap._row(text, MBIT, RTT_MS, [overlap.Run(one, alone, busy) for one in stats])
    wire_ms = 8e-3 * STATS.sent_bytes / MBIT
    assert row.ideal_ms == ideal_ms(busy, wire_ms, RTT_MS, 2, cores())
    assert row.idle_ideal_ms == ideal_ms(alone, wire_ms, RTT_MS, 2, cores())
    assert (row.measured_ms, row.over_ideal) == (100, 100 / row.ideal_ms)
    assert row.over_idle_ideal == 100 / row.idle_ideal_ms


def test_the_slowest_of_a_hundred_is_never_beyond_what_was_measured():
    assert load._p99([3.0]) == 3.0
    assert load._p99([1.0, 2.0]) == pytest.approx(1.99)
    assert load._p99([float(number) for number in range(101)]) == pytest.approx(99)


def test_a_figure_is_that_of_the_turn_with_the_median_error():
    def turn(best: str, *totals: tuple[float, float]) -> list[Predicted]:
        return [
            Predicted("model", 1.0, split, split == best, Figure(*total), first=Figure(*total))
            for split, total in zip(("a", "b"), totals, strict=True)
        ]

    turns = [
        turn("a", (10, 20), (8, 8)),  # errors -50 and 0 %
        turn("b", (22, 20), (12, 8)),  # 10 and 50 %
        turn("a", (30, 20), (6, 8)),  # 50 and -25 %
    ]
    one, other = plan_accuracy._middle(turns)
    assert (one.split, one.is_best, one.total, one.first) == ("a", True, *[Figure(22, 20)] * 2)
    assert (other.split, other.is_best, other.total) == ("b", False, Figure(8, 8))
    assert one.token is None
