"""Each setting of the sampling does what its name says."""

from collections import Counter

import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire_server.sampling import next_token

LOGITS = torch.tensor([0.5, 0.1, 0.3, 0.1]).log()


def draws(**settings) -> Counter:
    sampling = pb.Sampling(temperature=settings.pop("temperature", 1.0), **settings)
    return Counter(next_token(LOGITS, sampling, position) for position in range(2000))


def test_temperature_0_takes_the_likeliest():
    assert next_token(LOGITS, pb.Sampling(), 0) == 0


def test_temperature_1_draws_by_probability():
    counts = draws()
    for token, probability in enumerate((0.5, 0.1, 0.3, 0.1)):
        assert counts[token] / 2000 == pytest.approx(probability, abs=0.04)


def test_a_low_temperature_sharpens():
    assert draws(temperature=0.25)[0] > 1700


def test_top_k_keeps_the_likeliest_k():
    assert set(draws(top_k=2)) == {0, 2}


def test_top_p_keeps_those_that_reach_it_together():
    assert set(draws(top_p=0.45)) == {0}
    assert set(draws(top_p=1e-50)) == {0}  # 0 in float32
    assert set(draws(top_p=0.6)) == {0, 2}


def test_what_has_no_chance_is_never_drawn():
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf])
    sampling = pb.Sampling(temperature=1.0)
    assert {next_token(logits, sampling, position) for position in range(500)} == {1, 3}


def test_seed_and_position_alone_decide():
    sampling = pb.Sampling(temperature=1.0, seed=3)
    first = [next_token(LOGITS, sampling, position) for position in range(50)]
    torch.manual_seed(99)
    assert [next_token(LOGITS, sampling, position) for position in range(50)] == first
    other = pb.Sampling(temperature=1.0, seed=4)
    assert [next_token(LOGITS, other, position) for position in range(50)] != first
