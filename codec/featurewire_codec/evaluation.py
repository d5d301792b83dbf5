"""Evaluation: a codec and samples in, its rate, distortion and speed at one quality out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .codec import FeatureCodec
from .feature import energy
from .files import Samples
from .quantiser import Effort

_WARMING_S = 0.3


@dataclass(frozen=True)
class Result:
    """What was measured over all samples.

    bpfp: bits per feature point, everything counted. snr_db: E over the mean MSE, in dB, E being
    the profile's, or the mean of the samples' own. Speeds are of the whole codec, one thread of it.
    """

    asked_db: float
    bpfp: float
    snr_db: float
    encode_mfeatures_s: float
    decode_mfeatures_s: float


def evaluate(
    codec: FeatureCodec, sources: Sequence[Samples], snr_db: float, effort: Effort = "fast"
) -> Result:
    """Encode and decode every sample at one quality.

    Raises:
        CodecError: a sample is not one the codec encodes.
    """
    first, warm = sources[0], time.perf_counter() + _WARMING_S
    while True:  # imports, tables, caches: not timed
        codec.decode(codec.encode(first.arrays[0], snr_db, first.grid, effort=effort))
        if time.perf_counter() > warm:
            break
    coded = features = 0
    squared_error = energies = encoding_s = decoding_s = 0.0
    for source in sources:
        for sample in source.arrays:
            start = time.perf_counter()
            data = codec.encode(sample, snr_db, source.grid, effort=effort)
            middle = time.perf_counter()
            decoded = codec.decode(data).numpy()
            decoding_s += time.perf_counter() - middle
            encoding_s += middle - start
            coded += len(data)
            features += sample.size
            squared_error += float(np.sum((decoded - sample) ** 2, dtype=np.float64))
            energies += energy(sample) * sample.size
    scale = codec.profile.energy if codec.profile else energies / features
    return Result(
        asked_db=snr_db,
        bpfp=8 * coded / features,
        snr_db=float(10 * np.log10(scale * features / max(squared_error, 1e-300))),
        encode_mfeatures_s=features / encoding_s / 1e6,
        decode_mfeatures_s=features / decoding_s / 1e6,
    )
