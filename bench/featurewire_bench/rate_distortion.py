"""Rate, distortion and speed of codecs on the bundled models' own features.

Workloads in, their heads' features coded in every way, points out. No network takes part.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from featurewire_codec import FeatureCodec, Profile
from featurewire_models import load_head

from featurewire_bench.baselines import BASELINES
from featurewire_bench.measurement import THREADS
from featurewire_bench.metrics import snr
from featurewire_bench.workload import Inference

SNRS_DB = (10.0, 15.0, 20.0, 25.0, 30.0)
PASSES = 3  # over all samples; the fastest one is what the machine can do


@dataclass(frozen=True)
class FeatureSet:
    """One named tensor of one split point, over several inputs."""

    name: str
    samples: Sequence[torch.Tensor]  # each [tokens, channels]
    grid: tuple[int, int] | None
    profile: Profile | None


@dataclass(frozen=True)
class Point:
    """One codec at one setting on one feature set."""

    feature: str
    codec: str
    asked_snr_db: float | None  # None: the codec has no such knob
    snr_db: float  # reached: variance about the channel means over MSE, all samples together
    bpfp: float  # bits a feature point, headers included
    encode_mfeatures_s: float  # millions of features a second
    decode_mfeatures_s: float


@dataclass(frozen=True)
class _Way:
    """A codec at a setting: a pair of inverse functions."""

    codec: str
    asked_snr_db: float | None
    encode: Callable[[torch.Tensor], bytes]
    decode: Callable[[bytes, tuple[int, int]], torch.Tensor]


def feature_sets(workload: Inference) -> list[FeatureSet]:
    """The features of the workload's inputs at the model's default split point.

    Raises:
        ModelError, CodecError: the model or a profile cannot be read.
    """
    torch.set_num_threads(THREADS)
    head = load_head(workload.model, task=workload.task)
    folder = head.info.profile_folder(head.split, head.task)
    with torch.inference_mode():
        features = [head(sample) for sample in workload.inputs]
    return [
        FeatureSet(
            name=f"{workload.model} {head.split}, {workload.title}: {name}",
            samples=[sample for f in features for sample in f.tensors[name]],
            grid=features[0].grids.get(name),
            profile=Profile.from_pretrained(folder / name) if folder else None,
        )
        for name in features[0].tensors
    ]


def measure_codecs(features: FeatureSet, snrs_db: Sequence[float] = SNRS_DB) -> Iterator[Point]:
    """Every codec and setting on one feature set, each after an encoding that nobody times."""
    points = sum(sample.numel() for sample in features.samples)
    for way in _ways(features, snrs_db):
        way.decode(way.encode(features.samples[0]), _shape(features.samples[0]))
        encode_s = decode_s = math.inf
        for _ in range(PASSES):
            started = time.perf_counter()
            coded = [way.encode(sample) for sample in features.samples]
            encoded = time.perf_counter()
            decoded = [
                way.decode(data, _shape(sample))
                for data, sample in zip(coded, features.samples, strict=True)
            ]
            ended = time.perf_counter()
            encode_s = min(encode_s, encoded - started)
            decode_s = min(decode_s, ended - encoded)
        yield Point(
            feature=features.name,
            codec=way.codec,
            asked_snr_db=way.asked_snr_db,
            snr_db=snr(torch.cat(decoded), torch.cat(list(features.samples))),
            bpfp=8 * sum(map(len, coded)) / points,
            encode_mfeatures_s=points / encode_s / 1e6,
            decode_mfeatures_s=points / decode_s / 1e6,
        )


def _shape(sample: torch.Tensor) -> tuple[int, int]:
    return sample.shape[0], sample.shape[1]


def _ways(features: FeatureSet, snrs_db: Sequence[float]) -> Iterator[_Way]:
    codecs = {"no profile": FeatureCodec()}
    if features.profile is not None:
        codecs = {"featurewire": FeatureCodec(features.profile), **codecs}
    for name, codec in codecs.items():
        for snr_db in snrs_db:
            encode = partial(codec.encode, snr_db=snr_db, grid=features.grid)
            yield _Way(name, snr_db, encode, partial(_decode, codec))
    for baseline in BASELINES:
        yield _Way(baseline.name, None, baseline.encode, baseline.decode)


def _decode(codec: FeatureCodec, data: bytes, _: tuple[int, int]) -> torch.Tensor:
    return codec.decode(data)
