"""What a plan says: the best split point, why, and what would change it."""

import pytest
from featurewire_client.plan import Link, Plan, SplitCost, reason, what_would_change_it


def cost(split: str, sent_bytes: int, compute_ms: float, link: Link) -> SplitCost:
    wire_ms = sent_bytes / (125 * link.rate_mbit)
    network_ms = wire_ms + link.round_trip_ms
    return SplitCost(
        split,
        profiled=True,
        sent_bytes=sent_bytes,
        received_bytes=0,
        head_ms=compute_ms,
        encode_ms=0,
        network_ms=network_ms,
        decode_ms=0,
        tail_ms=0,
        total_ms=compute_ms + network_ms,
    )


def plan(rate_mbit: float, *splits: tuple[str, int, float]) -> Plan:
    link = Link(rate_mbit, 20.0)
    return Plan(link, [cost(*split, link) for split in splits])


THREE = (("layers.0", 50_000, 10.0), ("layers.3", 5_000, 40.0), ("layers.6", 1_000, 200.0))


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
