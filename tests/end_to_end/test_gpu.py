"""On a GPU: sessions whose heads and tails compute there, in bfloat16 too."""

import asyncio

import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire_client import SplitClient
from featurewire_models import load_model, load_processor
from featurewire_models.halves import GPU_PASS_TOKENS
from featurewire_models.llama import LlamaTail
from featurewire_server.sampling import next_token

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

MODEL = "tiny-llama3"
PROMPTS = ("Return the", "The value of a", "If the file", "def")
LONG = "This function returns the value of the given name. " * 24


@pytest.fixture
def landed(monkeypatch):
    """Device, dtype and tokens of every feature that the tail was given."""
    seen: list[tuple[str, torch.dtype, int]] = []
    steps = LlamaTail.steps

    def noted(self, features, caches):
        for hidden in (feature.tensors["hidden"] for feature in features):
            seen.append((hidden.device.type, hidden.dtype, hidden.shape[1]))
        return steps(self, features, caches)

    monkeypatch.setattr(LlamaTail, "steps", noted)
    return seen


async def text_of(address: str, prompt: str, tokens: int = 12, **options) -> str:
    async with SplitClient(address, MODEL, codec="float32", **options) as client:
        return "".join([piece async for piece in client.generate(prompt, max_tokens=tokens)])


def unsplit(prompt: str, dtype: str, span: int, tokens: int = 12) -> str:
    """The whole model's text on the GPU, its prompt in the same spans."""
    processor, model = load_processor(MODEL), load_model(MODEL, dtype=dtype, device="cuda")
    cache, words = model.new_cache(), []
    ids = processor.inputs(prompt)["input_ids"]
    with torch.inference_mode():
        for part in torch.split(ids, span, dim=1):
            logits = model({"input_ids": part}, cache=cache).logits
        for _ in range(tokens):
            words.append(next_token(logits[0, -1], pb.Sampling(), 0))
            logits = model({"input_ids": torch.tensor([words[-1:]])}, cache=cache).logits
    return processor.decode(words)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("prompt", [PROMPTS[0], LONG])
async def test_head_and_tail_on_a_gpu_make_the_whole_models_text(serve, dtype, prompt):
    async with serve(MODEL, dtype=dtype, device="cuda") as server:
        text = await text_of(server.address, prompt, dtype=dtype, device="cuda")
    assert text == unsplit(prompt, dtype, GPU_PASS_TOKENS)


async def test_features_of_a_head_on_a_cpu_land_on_the_gpu_of_the_tail(serve, landed):
    async with serve(MODEL, device="auto") as server:
        text = await text_of(server.address, LONG)
    assert text
    assert {device for device, _, _ in landed} == {"cuda"}


async def test_generations_side_by_side_on_a_gpu_each_get_their_own_text(serve):
    async with serve(MODEL, device="cuda") as server:
        alone = [await text_of(server.address, prompt) for prompt in PROMPTS]
        together = (text_of(server.address, prompt, device="cuda") for prompt in PROMPTS)
        assert await asyncio.gather(*together) == alone


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("task", ["classification", "depth"])
async def test_an_inference_on_a_gpu_gives_the_whole_models_outputs(serve, task, dtype):
    placed = {"task": task, "dtype": dtype, "device": "cuda"}
    inputs = {"pixel_values": torch.rand(1, 3, 56, 56)}
    model = "tiny-dinov2"
    async with (
        serve(model, dtype=dtype, device="cuda") as server,
        SplitClient(server.address, model, codec="float32", **placed) as client,
    ):
        result = await client.infer(inputs)
    with torch.inference_mode():
        whole = load_model("tiny-dinov2", **placed)(inputs)
    name = "logits" if task == "classification" else "predicted_depth"
    assert torch.equal(result.output[name], whole[name].cpu())
    assert result.stats.head_ms > 0
    assert result.stats.tail_ms > 0


def test_a_token_drawn_on_a_gpu_is_the_one_drawn_on_a_cpu():
    logits = torch.randn(500, generator=torch.Generator().manual_seed(0))
    sampling = pb.Sampling(temperature=1.0, top_k=50, top_p=0.9, seed=5)
    places = range(200)
    here = [next_token(logits, sampling, place) for place in places]
    there = [next_token(logits.cuda(), sampling, place) for place in places]
    assert sum(one != other for one, other in zip(here, there, strict=True)) <= 2  # last bits
