"""The edge's own work: inputs in, coded features out; torch and the codec off the event loop."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from featurewire.wire.coder import Coder
from featurewire_models import Features, Head

from featurewire_client.session import CodedSample


@dataclass(frozen=True)
class CodedFeatures:
    """A head's features and their bitstreams, with the seconds that each took."""

    features: Features
    samples: list[CodedSample]
    head_s: float
    encode_s: float

    @property
    def points(self) -> int:
        return sum(tensor.numel() for tensor in self.features.tensors.values())


def encode(coder: Coder, features: Features, snr_db: float) -> list[CodedSample]:
    """Every sample of every tensor, one bitstream each."""
    return [
        CodedSample(
            index,
            number,
            list(coder.encode(name, sample, features.grids.get(name), snr_db)),
        )
        for index, (name, tensor) in enumerate(features.tensors.items())
        for number, sample in enumerate(tensor)
    ]


def run(
    head: Head, coder: Coder, inputs: dict[str, torch.Tensor], snr_db: float, cache: Any = None
) -> CodedFeatures:
    """Runs the head and encodes its features.

    Raises:
        ModelError: the head cannot run on the inputs.
        CodecError: the features cannot be coded.
    """
    started = time.perf_counter()
    with torch.inference_mode():
        features = head(inputs, cache=cache) if cache is not None else head(inputs)
        ran = time.perf_counter()
        samples = encode(coder, features, snr_db)
    ended = time.perf_counter()
    return CodedFeatures(features, samples, ran - started, ended - ran)
