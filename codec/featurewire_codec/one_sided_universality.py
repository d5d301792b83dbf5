"""How universal the one-sided mode's frozen numbers are: those of all other models for each source.

Ideal code lengths, as in `universality`; nothing is coded.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .one_sided import Contexts
from .one_sided_fit import Floats
from .one_sided_symbols import LENGTH_BITS, to_symbols
from .one_sided_tables import ALPHABET, Parameters, Tables, build_tables
from .one_sided_training import (
    Source,
    channel_weights,
    class_thresholds,
    quantise_source,
    train_one_sided,
)
from .tables import CLASSES, FREQUENCY_SUM
from .universality import Universality, entropy, model_of


def leave_one_out(sources: Sequence[tuple[str, Source]]) -> list[Universality]:
    """Measure every named source with parameters and tables of the other models' sources."""
    trained = {}
    for model in {model_of(name) for name, _ in sources}:
        others = [source for name, source in sources if model_of(name) != model]
        parameters, histograms = train_one_sided(others)
        trained[model] = parameters, build_tables(histograms)
    return [
        Universality(name, *code_lengths(source, *trained[model_of(name)]))
        for name, source in sources
    ]


def code_lengths(source: Source, parameters: Parameters, tables: Tables) -> tuple[float, float]:
    """Return the bits a feature of what is counted of a source, at all SNRs of training.

    First with these tables, then with the source's own ideal static ones of the same classes, whose
    alphabets are the largest. Both have the same parameters and rounding, the source's channel
    weights, and their escapes' and low bits.
    """
    frozen, ideal = _Counts(tables.radii), _Counts(np.full(CLASSES, ALPHABET - 1, np.int32))

    def count(_: Floats, indices: NDArray[np.int32], how: Contexts) -> None:
        frozen.add(indices, how)
        ideal.add(indices, how)

    weights = channel_weights(source, parameters)
    quantise_source(source, weights, class_thresholds(tables), parameters, count)
    others, own = float(frozen.raw_bits), float(ideal.raw_bits) + sum(map(entropy, ideal.symbols))
    for frequencies, seen in zip(tables.classes, frozen.symbols, strict=True):
        others += float(seen[: len(frequencies)] @ np.log2(FREQUENCY_SUM / frequencies))
    features = int(ideal.symbols.sum())
    return others / features, own / features


class _Counts:
    """Symbols by class with alphabets of these radii, int64[64, 128], and raw bits beside them."""

    def __init__(self, radii: NDArray[np.int32]) -> None:
        self.radii = radii
        self.symbols = np.zeros((CLASSES, ALPHABET), np.int64)
        self.raw_bits = 0

    def add(self, indices: NDArray[np.int32], how: Contexts) -> None:
        coded = to_symbols(indices, how, self.radii)
        cells = how.classes.ravel().astype(np.int64) * ALPHABET + coded.symbols
        self.symbols.ravel()[:] += np.bincount(cells, minlength=self.symbols.size)
        below = np.frexp((coded.excess + 1).astype(np.float64))[1].astype(np.int64) - 1
        self.raw_bits += int(how.low_bits.sum(dtype=np.int64) + (LENGTH_BITS + below).sum())
