"""A plan's prediction is near what a run takes, where bytes and round trips are what takes time."""

import numpy as np
import pytest
from featurewire_bench.relay import Relay
from featurewire_client import SplitClient, planner
from featurewire_client.connection import connected
from featurewire_client.plan import Plan
from featurewire_client.planner import Inference, Text, Work, make_plan
from featurewire_models import load_processor
from PIL import Image

SLOW = 0.1  # Mbit/s: what a busy machine adds is little beside it


@pytest.fixture
def inference() -> Work:
    shades = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    processor = load_processor("tiny-dinov2", "classification")
    return Inference(processor.inputs(Image.fromarray(shades)))


def text(tokens: int, repeats: int = 8) -> Text:
    prompt = "This function returns the value of the given name. " * repeats
    return Text(prompt, load_processor("tiny-llama3").inputs(prompt)["input_ids"], tokens)


async def planned(address: str, model: str, splits: list[str], work: Work) -> Plan:
    async with connected(address, timeout_s=10) as connection:
        return await make_plan(
            connection,
            lambda split: SplitClient(address, model, split),
            splits,
            work,
            1,
            lambda _: None,
        )


async def test_an_inference_takes_what_was_predicted_at_a_split_point_that_no_request_went_to(
    serve, inference, monkeypatch
):
    monkeypatch.setattr(planner, "ASKED_SPLITS", 2)
    model = "tiny-dinov2"
    async with serve(model) as server:
        with Relay(server.address, rate_mbit=SLOW, rtt_ms=20) as link:
            plan = await planned(
                link.address, model, ["layers.0", "layers.3", "layers.6"], inference
            )
            assert [cost.asked for cost in plan.costs] == [True, False, True]
            assert plan.best.split == "layers.3"  # the only one with a profile: the fewest bytes
            async with SplitClient(link.address, model, plan.best.split) as client:
                stats = (await client.infer(inference.inputs)).stats
    assert plan.link.rate_mbit == pytest.approx(SLOW, rel=0.2)
    assert plan.best.request.sent_bytes == pytest.approx(stats.sent_bytes, rel=0.01)
    assert plan.total_ms(plan.best) == pytest.approx(stats.total_ms, rel=0.2)


async def test_a_sequence_that_goes_in_spans_takes_what_was_predicted(serve):
    """Its answer, logits of all tokens, is what takes time here."""
    model, work = "tiny-llama3", Inference({"input_ids": text(1, repeats=24).ids})
    async with serve(model) as server:
        with Relay(server.address, rate_mbit=4, rtt_ms=20) as link:
            plan = await planned(link.address, model, ["layers.2", "layers.4"], work)
            async with SplitClient(link.address, model, plan.best.split) as client:
                stats = (await client.infer(work.inputs)).stats
    assert plan.best.request.in_spans
    assert plan.best.request.parts > 2
    assert plan.best.request.sent_bytes == pytest.approx(stats.sent_bytes, rel=0.02)
    assert plan.total_ms(plan.best) == pytest.approx(stats.total_ms, rel=0.2)


async def test_a_text_takes_what_was_predicted_first_token_and_later_ones(serve):
    model, work = "tiny-llama3", text(tokens=3)
    async with serve(model) as server:
        with Relay(server.address, rate_mbit=SLOW, rtt_ms=400) as link:
            plan = await planned(link.address, model, ["layers.1", "layers.4"], work)
            assert plan.best.split == "layers.4"
            assert plan.best.request.parts == 2
            async with SplitClient(link.address, model, plan.best.split) as client:
                async for _ in client.generate(work.prompt, max_tokens=work.tokens):
                    pass
                stats = client.last_stats
    cost = plan.best
    assert stats.tokens == work.tokens
    sent = cost.request.sent_bytes + (work.tokens - 1) * cost.token.sent_bytes
    assert sent == pytest.approx(stats.sent_bytes, rel=0.05)
    later_ms = (stats.total_ms - stats.first_token_ms) / (stats.tokens - 1)
    assert cost.request.total_ms(plan.link) == pytest.approx(stats.first_token_ms, rel=0.2)
    assert cost.token.total_ms(plan.link) == pytest.approx(later_ms, rel=0.2)
    assert plan.total_ms(cost) == pytest.approx(stats.total_ms, rel=0.2)


async def test_a_text_of_one_token_is_planned_by_its_prompt_alone(serve):
    async with serve("tiny-llama3") as server:
        plan = await planned(server.address, "tiny-llama3", ["layers.4"], text(1, repeats=1))
    assert plan.best.token is None
    assert plan.rows()[0]["token"] is None
    assert plan.total_ms(plan.best) == plan.best.request.total_ms(plan.link) > 0
