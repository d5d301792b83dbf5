"""How universal the one-sided mode's frozen numbers are: those of all other models for each source.

Ideal code lengths, as in `universality`; nothing is coded.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .one_sided import Contexts
from .one_sided_mixture import mix_tables
from .one_sided_rounding import Rounded, class_thresholds
from .one_sided_symbols import to_symbols
from .one_sided_tables import ALPHABET, CLASSES, LENGTH_BITS, Parameters, Tables, build_tables
from .one_sided_training import (
    Source,
    calibrated_weights,
    round_source,
    train_one_sided,
)
from .tables import FREQUENCY_SUM
from .universality import Universality, entropy, model_of

_FOLDS = 5
_PRIOR = 20.0  # symbols of a class that own tables are believed to have seen as the others' have


def leave_one_out(
    sources: Sequence[tuple[str, Source]], kept: Parameters | None = None
) -> list[Universality]:
    """Measure every named source with parameters and tables of other models' sources.

    Models are left out one by one, or of more than five every fifth together: stricter, and sooner
    done. `kept` is what predicts, where that is not to be fitted.
    """
    models = list(dict.fromkeys(model_of(name) for name, _ in sources))
    rows: dict[str, Universality] = {}
    for fold in range(min(_FOLDS, len(models))):
        out = models[fold::_FOLDS]
        others = [source for name, source in sources if model_of(name) not in out]
        parameters, histograms = train_one_sided(others, kept)
        tables = build_tables(histograms)
        for name, source in sources:
            if model_of(name) in out:
                figures = code_lengths(source, parameters, tables)
                rows[name] = Universality(name, *figures[:2], learned=figures[2])
    return [rows[name] for name, _ in sources]


def code_lengths(
    source: Source, parameters: Parameters, tables: Tables
) -> tuple[float, float, float]:
    """Return the bits a feature of what is counted of a source, at all SNRs of training.

    First with these tables; then with the source's own ideal static ones of the same classes, whose
    alphabets are the largest; then with own ones that its fitted half led to, which know nothing of
    the counted half by heart. All have the same parameters and rounding, the source's channel
    weights, and their escapes' and low bits.
    """
    weights = calibrated_weights(source, parameters, tables)
    tables = mix_tables(tables, weights.mixture)

    def count_all(half: Source, *kinds: _Counts) -> None:
        def count(part: Rounded) -> None:
            for counts in kinds:
                counts.add(part.indices, part.contexts)

        round_source(half, weights, class_thresholds(tables), parameters, count)

    largest = np.full(CLASSES, ALPHABET - 1, np.int32)
    frozen, ideal, other = _Counts(tables.radii), _Counts(largest), _Counts(largest)
    count_all(source, frozen, ideal)
    count_all(replace(source, counted=source.fitted), other)
    others, own = float(frozen.raw_bits), float(ideal.raw_bits) + sum(map(entropy, ideal.symbols))
    learned = float(ideal.raw_bits)
    for number, frequencies in enumerate(tables.classes):
        length = len(frequencies)
        others += float(frozen.symbols[number, :length] @ np.log2(FREQUENCY_SUM / frequencies))
        spread = np.full(ALPHABET, frequencies[-1] / (ALPHABET - length + 1))
        spread[: length - 1] = frequencies[:-1]
        likely = other.symbols[number] + _PRIOR * spread / FREQUENCY_SUM
        learned += float(ideal.symbols[number] @ np.log2(likely.sum() / likely))
    features = int(ideal.symbols.sum())
    return others / features, own / features, learned / features


class _Counts:
    """Symbols by class with alphabets of these radii, int64[128, 128], and raw bits beside them."""

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
