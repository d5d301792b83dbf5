"""What is under way fills a link, and no more than about a second of it."""

import math
from collections import deque

import pytest
from featurewire_client.window import UnderWay, Window

CHUNK_BYTES = LEAST_BYTES = 128 * 1024


def send(window: Window, total: int, rate: float, round_trip_s: float) -> tuple[float, float]:
    """Seconds that so many bytes take, and the most that one chunk had to wait for the link.

    Chunks queue in front of a wire; an acknowledgement is back a round trip after each has passed.
    """
    now = free_at = longest = 0.0
    under_way: deque[tuple[int, int, float, float]] = deque()  # bytes, all, sent, answered
    while total or under_way:
        waiting = sum(size for size, *_ in under_way)
        if total and waiting < window.bytes:
            size = min(total, CHUNK_BYTES, window.piece_bytes)
            total -= size
            longest = max(longest, free_at - now)
            free_at = max(now, free_at) + size / rate
            under_way.append((size, waiting + size, now, free_at + round_trip_s))
        else:
            size, every, sent, now = under_way.popleft()
            window.answered(size, every, now - sent, round_trip_s)
    return now, longest


@pytest.mark.parametrize("rate_mbit", [0.05, 0.1, 1, 10, 100])
@pytest.mark.parametrize("round_trip_s", [0.002, 0.1, 0.6])
def test_a_slow_link_has_little_waiting_in_front_of_it_and_is_never_idle(rate_mbit, round_trip_s):
    rate = rate_mbit * 125_000
    total = int(30 * rate)
    took, longest = send(Window(), total, rate, round_trip_s)
    assert longest < 3.0 + 3 * round_trip_s + LEAST_BYTES / rate
    doublings = max(0.0, math.log2(rate * round_trip_s / (LEAST_BYTES))) + 2
    assert took < 30 + doublings * round_trip_s + 0.1


def test_a_fast_link_is_filled_after_a_few_round_trips():
    window, rate = Window(), 25e6  # 200 Mbit/s
    first, _ = send(window, 4_200_000, rate, 0.02)
    again, _ = send(window, 4_200_000, rate, 0.02)
    assert again == pytest.approx(4_200_000 / rate + 0.02, rel=0.01)
    assert first < again + 5 * 0.02


def test_chunks_that_do_not_fill_the_window_do_not_widen_it():
    window = Window()
    for _ in range(1000):
        window.answered(1000, 1000, 0.01, 0.01)
    assert window.bytes == Window().bytes


def test_a_link_that_slows_down_narrows_the_window_but_never_below_where_it_began():
    window = Window()
    send(window, 10_000_000, 1e6, 0.02)
    wide = window.bytes
    window.answered(CHUNK_BYTES, int(wide), 4.0, 0.02)
    assert window.bytes < wide / 3
    for _ in range(50):
        window.answered(CHUNK_BYTES, int(wide), 200.0, 0.02)
    assert window.bytes == Window().bytes


def test_an_answer_takes_what_was_sent_first_and_a_session_that_is_over_all_of_it():
    sent = UnderWay()
    for size in (100, 200, 300, LEAST_BYTES):
        sent.sent(size)
    assert not sent.has_room
    size, sent_s, now = sent.acknowledged(0.01)
    assert (size, sent.bytes, sent.chunks) == (100, LEAST_BYTES + 500, 3)
    assert now >= sent_s
    sent.answered()
    assert sent.bytes == LEAST_BYTES + 300
    sent.forget()
    assert (sent.bytes, sent.has_room) == (0, True)
    sent.answered()
    assert sent.acknowledged(0.01) is None  # of a server that acknowledges too much
