"""The clock of a link direction, without sockets."""

import pytest
from featurewire_bench.errors import LinkError
from featurewire_bench.link import QUEUE_BYTES, LinkConfig, Wire


def test_delivery_is_serialisation_plus_half_the_round_trip() -> None:
    wire = Wire(LinkConfig(rate_mbit=8, rtt_ms=40))  # 1 MB/s
    assert wire.send(10_000, now=5.0) == pytest.approx(5.0 + 0.010 + 0.020)


def test_chunks_queue_behind_each_other_and_an_idle_wire_gives_no_credit() -> None:
    wire = Wire(LinkConfig(rate_mbit=8, rtt_ms=0))
    assert wire.send(10_000, now=0.0) == pytest.approx(0.010)
    assert wire.send(10_000, now=0.0) == pytest.approx(0.020)
    assert wire.send(10_000, now=100.0) == pytest.approx(100.010)
    assert wire.carried_bytes == 30_000


def test_senders_are_held_back_when_the_queue_is_full() -> None:
    wire = Wire(LinkConfig(rate_mbit=8, rtt_ms=40))
    assert wire.hold_s(now=0.0) == 0
    wire.send(QUEUE_BYTES, now=0.0)
    assert wire.hold_s(now=0.0) == pytest.approx(0)
    wire.send(50_000, now=0.0)
    assert wire.hold_s(now=0.0) == pytest.approx(0.050)


def test_jitter_adds_up_to_its_value() -> None:
    wire = Wire(LinkConfig(rate_mbit=100, rtt_ms=20, jitter_ms=30))
    delays = [wire.delay_s() for _ in range(500)]
    assert 0.010 <= min(delays) < 0.015
    assert 0.035 < max(delays) <= 0.040


@pytest.mark.parametrize(
    "impossible",
    [{"rate_mbit": 0}, {"rate_mbit": float("nan")}, {"rtt_ms": -1}, {"jitter_ms": float("inf")}],
)
def test_an_impossible_link_is_refused(impossible: dict[str, float]) -> None:
    with pytest.raises(LinkError, match="it must be"):
        LinkConfig(**impossible)
