"""Sources from the bundled models: their tasks' held-out inputs, with the profiles they ship with.

The tables of baselines are trained on what the profiles were: prose, scenes and captions of the
training side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from featurewire_codec import Profile
from featurewire_models import Features, load_head, load_processor, load_tail
from featurewire_models.training.diffusion_text import all_captions
from featurewire_models.training.prose import read_corpus, split_corpus
from PIL import Image

from featurewire_bench.bundled import IMAGES, TEXT, demo_workloads
from featurewire_bench.errors import MissingExtraError
from featurewire_bench.workload import Inference, Inputs

from .source import Array, Decoded, Part, Source

SEED = 11
PROSE_TOKENS = 256  # of one calibration text


def bundled_sources(calibration: int, tests: int) -> Iterator[Source]:
    """One source for each bundled model's task that is an inference.

    Raises:
        ModelError, CodecError: a model or a profile cannot be read.
        MissingExtraError: scikit-learn is not installed.
    """
    for workload in demo_workloads(tests):
        if isinstance(workload, Inference):
            yield bundled_source(workload, calibration)


def bundled_source(workload: Inference, calibration: int) -> Source:
    """The features of a workload at its model's default split point; see `bundled_sources`."""
    head = load_head(workload.model, task=workload.task)
    tail = load_tail(workload.model, head.split, workload.task)
    folder = head.info.profile_folder(head.split, head.task)
    with torch.inference_mode():
        tests = [head(inputs) for inputs in workload.inputs]
        seen = [head(inputs) for inputs in _calibration_inputs(workload, calibration)]
    names = list(tests[0].tensors)
    parts = [
        Part(
            name=name,
            calibration=_samples(seen, name),
            tests=_samples(tests, name),
            grid=seen[0].grids.get(name),
            test_grid=tests[0].grids.get(name),
            shipped=Profile.from_pretrained(folder / name) if folder else None,
        )
        for name in names
    ]

    def score(decoded: Decoded) -> float:
        outputs = []
        queues = {name: iter(samples) for name, samples in zip(names, decoded, strict=True)}
        with torch.inference_mode():
            for features in tests:
                tensors = {
                    name: torch.from_numpy(
                        np.stack([next(queues[name]) for _ in range(len(tensor))])
                    ).to(tensor.dtype)
                    for name, tensor in features.tensors.items()
                }
                outputs.append(tail(replace(features, tensors=tensors)))
        return workload.score(outputs)

    return Source(
        group="bundled",
        title=f"{workload.model}, {workload.title}",
        note=f"{head.split}, {len(names)} tensor(s), profile as shipped; {workload.note}",
        parts=parts,
        metric=workload.metric,
        score=score,
    )


def _samples(features: Sequence[Features], name: str) -> list[Array]:
    return [sample.float().numpy() for f in features for sample in f.tensors[name]]


def _calibration_inputs(workload: Inference, count: int) -> Iterator[Inputs]:
    processor: Any = load_processor(workload.model, workload.task)
    rng = np.random.default_rng(SEED)
    if workload.model == TEXT:
        training, _ = split_corpus(read_corpus())
        for index in rng.permutation(len(training))[:count]:
            ids = processor.tokenizer(training[index].text, verbose=False)["input_ids"]
            yield {"input_ids": torch.tensor([ids[:PROSE_TOKENS]])}
    elif workload.model == IMAGES:
        captions = sorted(all_captions())
        for seed, index in enumerate(rng.permutation(len(captions))[:count]):
            settings = workload.samples[0]
            yield processor.inputs(
                captions[index], seed=1000 + seed, steps=settings.steps, guidance=settings.guidance
            )
    else:
        try:
            from featurewire_models.training.digits import Kind, load_digits, scene

            digits, _ = load_digits()
        except ImportError as error:
            raise MissingExtraError(
                "scenes are made of scikit-learn's digits; pip install 'featurewire[train]'"
            ) from error
        kind: Kind = "single" if workload.task == "classification" else "crowded"
        for _ in range(count):
            yield processor.inputs(Image.fromarray(scene(rng, digits, kind).image))
