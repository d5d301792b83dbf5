"""What a plan says: every split point's latency, the best one, why, and what would change it."""

import random
import re
from dataclasses import replace
from itertools import islice

import pytest
from featurewire_client.commands.planning import text_work
from featurewire_client.plan import Plan, reason, what_would_change_it
from featurewire_client.split_cost import (
    Answer,
    Link,
    Pass,
    SplitCost,
    overlapped,
    predicted,
)
from featurewire_models import describe

LINK = Link(8.0, 20.0)  # a byte takes a microsecond


def one(sent_bytes: int, head_ms: float = 0.0, **others) -> Pass:
    times = {"encode_ms": 0.0, "decode_ms": 0.0, "tail_ms": 0.0, "received_bytes": 0, **others}
    return Pass(sent_bytes=sent_bytes, head_ms=head_ms, **times)


def plan(rate_mbit: float, *splits: tuple[str, int, float]) -> Plan:
    costs = [SplitCost(name, True, True, one(size, head)) for name, size, head in splits]
    return Plan(Link(rate_mbit, 20.0), costs)


def text_plan(tokens: int) -> Plan:
    """One split point has the prompt's first token sooner, the other each token after it."""
    costs = [
        SplitCost("layers.0", True, True, one(1000, 9.0), one(100, 5.0)),
        SplitCost("layers.3", True, True, one(1000, 40.0), one(100, 2.0)),
    ]
    return Plan(LINK, costs, tokens)


THREE = (("layers.0", 50_000, 10.0), ("layers.3", 5_000, 40.0), ("layers.6", 1_000, 200.0))


def test_stages_that_hand_on_part_after_part_take_what_the_slowest_does_and_one_part_of_others():
    assert overlapped([10.0, 40.0, 20.0], 1) == 70.0
    # ten parts: 1 + 2 before and after, and the ten parts of 4
    assert overlapped([10.0, 40.0, 20.0], 10) == pytest.approx(1 + 40 + 2)


def test_a_feature_in_chunks_overlaps_between_head_and_tail_and_a_prompt_in_all_stages():
    stages = {"encode_ms": 20.0, "decode_ms": 10.0, "tail_ms": 30.0, "received_bytes": 500}
    back = LINK.round_trip_ms + 0.5
    whole = one(40_000, 50.0, **stages)
    assert whole.total_ms(LINK) == pytest.approx(50 + 20 + 40 + 10 + 30 + back)
    chunked = one(40_000, 50.0, parts=10, **stages)
    assert chunked.total_ms(LINK) == pytest.approx(50 + (2 + 40 + 1) + 30 + back)
    prompt = one(40_000, 50.0, parts=10, in_spans=True, **stages)
    assert prompt.total_ms(LINK) == pytest.approx(50 + (2 + 4 + 1 + 3) + back)


def test_the_servers_stages_lie_between_those_of_the_neighbours_that_were_asked():
    edges = [one(1000, 10.0), one(2000, 20.0), one(3000, 30.0)]
    answers = {
        0: Answer(received_bytes=1000, decode_ms=1.0, tail_ms=8.0, total_ms=50.0),
        2: Answer(received_bytes=1000, decode_ms=3.0, tail_ms=2.0, total_ms=70.0),
    }
    first, middle, last = predicted(edges, answers, LINK)
    assert (middle.decode_ms, middle.tail_ms) == (2.0, 5.0)
    # 10 + 1 + 8, a millisecond each way and 20 ms: 41 of 50; 30 + 3 + 2, 3 + 1 and 20: 59 of 70
    assert (first.rest_ms, middle.rest_ms, last.rest_ms) == pytest.approx((10.0, 10.0, 10.0))
    assert middle.total_ms(LINK) == pytest.approx(20 + 2 + 5 + 2 + 1 + 20 + 10)


def test_what_disturbs_the_runs_at_one_split_point_alone_is_not_taken_for_its_cost():
    edges = [one(1000, head_ms) for head_ms in (10.0, 20.0, 30.0, 40.0)]
    rests = (3.0, 4.0, 90.0, 5.0)
    answers = {
        at: Answer(0, 0.0, 0.0, edge.total_ms(LINK) + rest)
        for at, (edge, rest) in enumerate(zip(edges, rests, strict=True))
    }
    assert [one.rest_ms for one in predicted(edges, answers, LINK)] == pytest.approx([4, 4, 5, 5])


def test_where_no_request_told_anything_only_edge_and_link_count():
    assert predicted([one(1000, 10.0)], {}, LINK)[0].total_ms(LINK) == pytest.approx(31.0)


def test_a_text_is_its_first_token_and_the_others():
    costs = text_plan(11).costs
    assert costs[0].total_ms(LINK, 1) == pytest.approx(9 + 1 + 20)
    assert costs[0].total_ms(LINK, 11) == pytest.approx(30 + 10 * (5 + 0.1 + 20))
    assert [round(row["token"]["total_ms"], 3) for row in text_plan(11).rows()] == [25.1, 22.1]


def test_how_long_a_text_is_to_be_decides_too():
    # 31 ms later, and 3 ms sooner a token
    assert [text_plan(tokens).best.split for tokens in (10, 12)] == ["layers.0", "layers.3"]
    assert what_would_change_it(text_plan(4)) == "For 12 tokens or more layers.3 would be faster."
    assert what_would_change_it(text_plan(64)) == "For 11 tokens or fewer layers.0 would be faster."
    assert reason(text_plan(64)).startswith("Split at layers.3: 1453.3 ms in all for 64 tokens.")
    assert "mostly 158.0 ms more of head" in reason(text_plan(64))


def test_a_length_of_one_token_is_said_as_such():
    costs = [
        SplitCost("layers.0", True, True, one(1000, 9.0), one(100, 5.0)),
        SplitCost("layers.3", True, True, one(1000, 11.0), one(100, 2.0)),
    ]
    said = "For 1 token layers.0 would be faster."
    assert what_would_change_it(Plan(LINK, costs, 2)) == said


@pytest.mark.parametrize("seed", range(40))
def test_the_lengths_that_would_change_it_are_those_that_trying_every_one_finds(seed):
    draw = random.Random(seed)
    costs = [
        SplitCost(
            f"layers.{k}",
            True,
            True,
            one(0, draw.uniform(0, 900)),
            one(0, draw.choice((1.0, 2.0, draw.uniform(0, 30)))),
        )
        for k in range(5)
    ]
    tokens = draw.choice((1, 2, 9, 40))
    found = Plan(LINK, costs, tokens, most_tokens=draw.choice((None, tokens + 50)))
    most = min(8 * tokens, found.most_tokens or 8 * tokens)
    expected = []
    for counts, what in (
        (range(tokens - 1, 0, -1), "fewer"),
        (range(tokens + 1, most + 1), "more"),
    ):
        bests = ((count, Plan(LINK, costs, count).best.split) for count in counts)
        changes = (one for one in bests if one[1] != found.best.split)
        expected += [
            f"for {at} tokens or {what} {split}" if at > 1 else f"for 1 token {split}"
            for at, split in islice(changes, 1)
        ]
    said = re.findall(r"for \d+ tokens?(?: or \w+)? [\w.]+\d", what_would_change_it(found).lower())
    assert [part.removesuffix(".") for part in said] == expected


def test_no_length_beyond_the_models_context_is_named():
    found = text_plan(4)
    assert "12 tokens or more" in what_would_change_it(replace(found, most_tokens=12))
    said = what_would_change_it(replace(found, most_tokens=11))
    assert said == "No rate of the link and no length of text would change that."


def test_a_text_is_planned_for_no_more_tokens_than_the_context_has_room_for():
    assert text_work("tiny-llama3", "Return the", 64).tokens == 64
    work = text_work("tiny-llama3", "a " * 480, 64)
    assert 1 < work.tokens < 64
    assert work.tokens == work.most_tokens
    assert work.ids.shape[1] + work.tokens - 1 == describe("tiny-llama3").context


@pytest.mark.parametrize(
    ("rate", "best"), [(100.0, "layers.0"), (5.0, "layers.3"), (0.1, "layers.6")]
)
def test_the_best_split_point_follows_the_link(rate, best):
    found = plan(rate, *THREE)
    assert found.best.split == best
    assert reason(found).startswith(f"Split at {best}: ")


def test_the_rates_that_would_change_it_are_where_the_totals_cross():
    said = what_would_change_it(plan(5.0, *THREE))
    # 45,000 bytes more in 30 ms: 12 Mbit/s; 4,000 bytes fewer for 160 ms more: .2 Mbit/s
    assert said == "Below 0.2 Mbit/s layers.6 would be faster, above 12 Mbit/s layers.0."
    for rate, best in (
        (0.19, "layers.6"),
        (0.21, "layers.3"),
        (11.9, "layers.3"),
        (12.1, "layers.0"),
    ):
        assert plan(rate, *THREE).best.split == best


def test_where_nothing_would_change_it_that_is_said():
    found = plan(5.0, ("layers.0", 1_000, 10.0), ("layers.3", 5_000, 40.0))
    assert what_would_change_it(found) == "No rate of the link would change that."
    assert "only split point" in reason(plan(5.0, THREE[0]))
