"""On a GPU: halves in any dtype give what the whole model gives there; copies go on beside it."""

import pytest
import torch
from featurewire_models import load_head, load_model, load_processor, load_tail, transfer
from featurewire_models.outputs import outputs_to_tensors

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

GPU = torch.device("cuda", 0)
LONG = 1_000_000_000  # cycles of a GPU that is kept busy: half a second or more
TASKS = [
    ("tiny-llama3", "generation", ("layers.0", "layers.4", "layers.8")),
    ("tiny-dinov2", "classification", ("layers.3",)),
    ("tiny-dinov2", "segmentation", ("layers.3",)),
    ("tiny-dinov2", "depth", ("layers.3",)),
    ("tiny-sd3", "text-to-image", ("latents", "prompt")),
]


def inputs_of(model: str, task: str) -> dict[str, torch.Tensor]:
    if task == "generation":
        return {"input_ids": torch.arange(24)[None]}
    if task == "text-to-image":
        return load_processor(model, task).inputs("a digit", steps=2)
    return {"pixel_values": torch.rand(1, 3, 56, 56)}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("model", "task", "split"),
    [(model, task, split) for model, task, splits in TASKS for split in splits],
)
def test_halves_on_a_gpu_give_what_the_whole_model_gives_there(model, task, split, dtype):
    inputs = inputs_of(model, task)
    placed = {"task": task, "dtype": dtype, "device": "cuda"}
    with torch.inference_mode():
        whole = outputs_to_tensors(load_model(model, **placed)(inputs))
        features = load_head(model, split, **placed)(inputs)
        outputs = outputs_to_tensors(load_tail(model, split, **placed)(features))
    assert {tensor.device.type for tensor in features.tensors.values()} == {"cuda"}
    for name, tensor in whole.items():
        assert torch.equal(outputs[name], tensor), name


def test_auto_finds_the_gpu():
    assert load_head("tiny-llama3", device="auto").device.type == "cuda"


@pytest.fixture
def busy():
    """Keeps the GPU busy with what it computes, and tells whether it still is."""
    transfer.upload(torch.zeros(1 << 16), GPU)  # what is made once takes the device's time
    transfer.Download({"one": torch.zeros(1 << 16, device=GPU)}).wait()
    done = torch.cuda.Event()

    def begin() -> torch.cuda.Event:
        torch.cuda._sleep(LONG)
        done.record()
        return done

    yield begin
    torch.cuda.synchronize()


def test_features_land_on_a_gpu_while_it_computes(busy):
    tensor = torch.arange(1 << 16, dtype=torch.float32)
    computing = busy()
    landed = transfer.upload(tensor, GPU)
    assert not computing.query()
    assert torch.equal(landed.cpu(), tensor)


def test_features_leave_a_gpu_while_it_computes_what_comes_next(busy):
    tensor = torch.arange(1 << 16, dtype=torch.float32, device=GPU) + 1
    copies = transfer.Download({"hidden": tensor})
    computing = busy()
    landed = copies.wait()["hidden"]
    assert not computing.query()
    assert torch.equal(landed, torch.arange(1 << 16) + 1)


def test_a_stopwatch_counts_what_a_gpu_takes_and_not_what_it_takes_to_ask(busy):
    watch = transfer.Stopwatch(GPU)
    busy()
    watch.stop()
    idle = transfer.Stopwatch(GPU)  # behind it
    idle.stop()
    assert idle.seconds() < watch.seconds()
