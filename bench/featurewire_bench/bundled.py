"""The bundled models' six tasks: samples in, workloads out, in the order of the demo's table."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from featurewire_models import load_model, load_processor
from featurewire_models.judge import Judge
from PIL import Image

from featurewire_bench import samples, scores
from featurewire_bench.errors import SampleError
from featurewire_bench.metrics import next_token_loss
from featurewire_bench.workload import Generation, Inference, Workload

TEXT, VISION, IMAGES = "tiny-llama3", "tiny-dinov2", "tiny-sd3"
NEW_TOKENS = 32
SHOWN_IMAGES = 4  # generated, each of them three times


def demo_workloads(count: int | None = None) -> list[Workload]:
    """All six, with at most `count` samples each.

    Raises:
        BenchError: a sample is missing.
        ModelError: a bundled model is.
    """
    return [
        generation(),
        passage_loss(),
        classification(count),
        segmentation(count),
        depth(count),
        text_to_image(min(count or SHOWN_IMAGES, SHOWN_IMAGES)),
    ]


def only(
    workloads: Sequence[Workload], models: Sequence[str] | None, tasks: Sequence[str] | None
) -> list[Workload]:
    """Those of the named models and tasks; SampleError when none is left."""
    kept = [
        workload
        for workload in workloads
        if (not models or workload.model in models) and (not tasks or workload.title in tasks)
    ]
    if not kept:
        known = ", ".join(f"{workload.model} {workload.title!r}" for workload in workloads)
        raise SampleError(f"no task is left of {known}")
    return kept


def generation() -> Workload:
    """Text from a prompt, scored by the perplexity that the whole model finds in it."""
    processor: Any = load_processor(TEXT, "generation")
    whole = load_model(TEXT)

    def perplexity(prompts: Sequence[str], texts: Sequence[str]) -> float:
        losses = []
        for prompt, text in zip(prompts, texts, strict=True):
            given = processor.inputs(prompt)["input_ids"].shape[1]
            ids = processor.inputs(prompt + text)["input_ids"]
            with torch.inference_mode():
                logits = whole({"input_ids": ids}).logits
            losses.append(next_token_loss(logits[:, given - 1 :], ids[:, given - 1 :]))
        return math.exp(sum(losses) / len(losses))

    return Generation(
        model=TEXT,
        task="generation",
        title="generation",
        metric="perplexity, of the text",
        note=f"{NEW_TOKENS} tokens a run, greedy; the perplexity is the whole model's",
        prompts=[samples.read_text(TEXT, "prompt.txt")],
        max_tokens=NEW_TOKENS,
        processor=processor,
        scored=perplexity,
    )


def passage_loss() -> Workload:
    """The loss over a held-out passage; the server sends the loss back, not its logits."""
    processor: Any = load_processor(TEXT, "generation")
    ids = processor.inputs(samples.read_text(TEXT, "passage.txt"))["input_ids"]
    return Inference(
        model=TEXT,
        task="generation",
        title="next-token loss",
        metric="loss, nats/token",
        note=f"a held-out passage of {ids.shape[1]} tokens",
        samples=[ids],
        inputs=[{"input_ids": ids, "labels": ids}],
        outputs=("loss",),
        scored=scores.mean_loss,
    )


def classification(count: int | None = None) -> Workload:
    """Which digit is nearest."""
    scenes = samples.labelled_scenes(VISION)[:count]
    score = scores.accuracy([scene.label for scene in scenes if scene.label is not None])
    return _vision("classification", scenes, "logits", "accuracy, %", score)


def segmentation(count: int | None = None) -> Workload:
    """Which pixels belong to which digit."""
    scenes = samples.masked_scenes(VISION)[:count]
    score = scores.mean_iou([scene.mask for scene in scenes if scene.mask is not None])
    return _vision("segmentation", scenes, "logits", "mean IoU, %", score)


def depth(count: int | None = None) -> Workload:
    """How far each pixel is."""
    scenes = samples.measured_scenes(VISION)[:count]
    score = scores.depth_rmse([scene.depth for scene in scenes if scene.depth is not None])
    return _vision("depth", scenes, "predicted_depth", "RMSE, depth units", score)


def text_to_image(count: int | None = None) -> Workload:
    """Images of digits, judged by a classifier that saw none of the bundled models."""
    prompts = samples.image_prompts(IMAGES)[:count]
    processor: Any = load_processor(IMAGES, "text-to-image")
    judge = Judge.load(samples.samples_folder(IMAGES) / "judge.safetensors")
    return Inference(
        model=IMAGES,
        task="text-to-image",
        title="text to image",
        metric="digit seen, % sure",
        note=f"{len(prompts)} prompts; how sure a separate classifier is of the digit asked for",
        inputs=[
            processor.inputs(p.text, seed=p.seed, steps=p.steps, guidance=p.guidance)
            for p in prompts
        ],
        outputs=("images",),
        samples=prompts,
        scored=scores.recognised(judge, [prompt.digit for prompt in prompts]),
    )


def _vision(
    task: str, scenes: Sequence[samples.Scene], output: str, metric: str, scored: scores.Score
) -> Workload:
    """A workload on images."""
    processor: Any = load_processor(VISION, task)
    return Inference(
        model=VISION,
        task=task,
        title=task,
        metric=metric,
        note=f"{len(scenes)} held-out images of handwritten digits",
        samples=scenes,
        inputs=[processor.inputs(Image.fromarray(scene.image)) for scene in scenes],
        outputs=(output,),
        scored=scored,
    )
