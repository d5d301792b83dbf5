"""One-shot requests of one shape share a pass of the tail, and each gets its own answer."""

import asyncio

import numpy as np
import pytest
import torch
from featurewire_client import RefusedError, SplitClient
from featurewire_models import load_model, load_processor
from featurewire_models.dinov2 import Dinov2Tail
from featurewire_models.llama import LlamaTail
from PIL import Image

MODEL = "tiny-dinov2"


@pytest.fixture(scope="module")
def images() -> list[dict[str, torch.Tensor]]:
    rng = np.random.default_rng(0)
    processor = load_processor(MODEL, "classification")
    return [
        processor.inputs(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)))
        for _ in range(12)
    ]


@pytest.fixture
def passes(monkeypatch):
    """The samples in every pass of a tail."""
    seen: list[int] = []

    def count(tail) -> None:
        call = tail.__call__

        def counted(self, features, cache=None):
            seen.append(features.batch)
            return call(self, features, cache)

        monkeypatch.setattr(tail, "__call__", counted)

    count(Dinov2Tail)
    count(LlamaTail)
    return seen


async def answers(address: str, images, repeats: int = 1) -> list[torch.Tensor]:
    async def one(inputs) -> torch.Tensor:
        async with SplitClient(address, MODEL, codec="float32") as client:
            for _ in range(repeats):
                result = await client.infer(inputs)
        return result.output.logits

    return await asyncio.gather(*map(one, images))


async def test_requests_of_one_shape_share_passes(serve, images, passes):
    whole = load_model(MODEL, task="classification")
    expected = [whole(inputs).logits for inputs in images]
    passes.clear()
    async with serve(MODEL, batch_wait_ms=300) as server:
        found = await answers(server.address, images, repeats=3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert max(passes) > 3
    assert sum(passes) == 3 * len(images)


async def test_without_company_an_answer_is_the_unsplit_models_bit_for_bit(serve, images, passes):
    whole = load_model(MODEL, task="classification")
    async with serve(MODEL, max_batch=1) as server:
        found = await answers(server.address, images[:4])
    assert set(passes) == {1}
    for inputs, logits in zip(images[:4], found, strict=True):
        assert torch.equal(logits, whole(inputs).logits)


async def test_a_batch_is_bounded(serve, images, passes):
    async with serve(MODEL, batch_wait_ms=50, max_batch=3) as server:
        await answers(server.address, images, repeats=2)
    assert max(passes) == 3


async def test_a_request_alone_does_not_wait_for_company(serve, images):
    async with (
        serve(MODEL, batch_wait_ms=600_000) as server,
        SplitClient(server.address, MODEL) as client,
    ):
        for _ in range(3):
            assert (await client.infer(images[0])).output.logits.shape == (1, 10)


async def test_what_fails_in_company_fails_alone(serve):
    model = "tiny-llama3"
    ids = torch.tensor([[5, 6, 7]])
    good = {"input_ids": ids, "attention_mask": torch.ones(1, 3, dtype=torch.long)}

    async def one(address: str, outputs: list[str]) -> torch.Tensor:
        async with SplitClient(address, model, codec="float32") as client:
            return (await client.infer(good, outputs=outputs)).output.logits

    async with serve(model, batch_wait_ms=50) as server:
        wanted = [["logits"], ["nothing"], ["logits"], ["logits"]]
        found = await asyncio.gather(
            *(one(server.address, outputs) for outputs in wanted), return_exceptions=True
        )
    assert isinstance(found[1], RefusedError)
    expected = load_model(model)(good).logits
    for number in (0, 2, 3):
        torch.testing.assert_close(found[number], expected, rtol=1e-4, atol=1e-4)


async def test_a_large_batch_goes_through_the_tail_in_passes(serve, images, passes):
    whole = load_model(MODEL, task="classification")
    batch = {"pixel_values": torch.cat([one["pixel_values"] for one in images] * 4)}
    expected = whole(batch).logits
    passes.clear()
    async with (
        serve(MODEL) as server,
        SplitClient(server.address, MODEL, codec="float32") as client,
    ):
        result = await client.infer(batch)
    torch.testing.assert_close(result.output.logits, expected, rtol=1e-4, atol=1e-4)
    assert passes == [16, 16, 16]
    assert result.stats.tail_ms > 0


TEXTS = torch.randint(1, 97, (40, 12), generator=torch.Generator().manual_seed(1))
BESIDE = {
    "nothing": {},
    "a row for each sample": {
        "attention_mask": torch.ones(40, 12).long(),
        "position_ids": torch.arange(12).expand(40, -1) + torch.arange(40)[:, None],
        "logits_to_keep": torch.tensor(2),
    },
    "logits to keep by number": {"logits_to_keep": torch.tensor([1, 11])},
    "positions of all": {"position_ids": torch.arange(12)[None] + 3},
    "labels": {"labels": TEXTS},
}


@pytest.mark.parametrize("beside", BESIDE)
async def test_texts_of_a_large_batch_have_the_outputs_of_the_unsplit_model(
    llama, serve, passes, beside
):
    inputs = {"input_ids": TEXTS, **BESIDE[beside]}
    expected = load_model(llama)(inputs)
    passes.clear()
    name = str(llama)
    async with serve(llama) as server, SplitClient(server.address, name, codec="float32") as client:
        output = (await client.infer(inputs)).output
    torch.testing.assert_close(output.logits, expected.logits, rtol=1e-4, atol=1e-4)
    if beside == "labels":  # whose loss is of all samples together
        torch.testing.assert_close(output.loss, expected.loss)
    together = beside in ("labels", "positions of all")
    assert passes == ([40] if together else [16, 16, 8])
