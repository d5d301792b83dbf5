"""What `featurewire-codec train` does: the samples of several models in, files of tables out."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .console import print_table, waiting
from .errors import FeatureError
from .files import Samples
from .one_sided_tables import load_one_sided, save_one_sided
from .one_sided_training import read_source
from .one_sided_training import train_one_sided as train_parameters
from .one_sided_universality import leave_one_out as measure_one_sided
from .tables import build_tables, save_tables, total
from .training import Source, prepare, train_tables
from .universality import Universality, model_of
from .universality import leave_one_out as measure

_COLUMNS = {
    "others": "bits, others' tables",
    "own": "own ideal",
    "ratio": "difference",
    "learned": "own, other half",
    "learned_ratio": "difference",
    "trellis_others": "trellis: bits, others' tables",
    "trellis_own": "bits, own ideal",
    "trellis_ratio": "difference",
}


def train(samples: Sequence[Samples], out: Path | None, leave_one_out: bool, as_json: bool) -> None:
    """Train the tables on all, and measure each source with those of the other models.

    Raises:
        FeatureError: nothing is asked for, or there is one model only to leave out.
    """
    _check(samples, out, leave_one_out)
    with waiting("fitting"):
        prepared = [prepare(Source(s.name, s.arrays, s.grid)) for s in samples]
    with waiting("counting"):
        counts = train_tables(prepared)
    histograms = total(counts)
    if out is not None:
        save_tables(histograms, out)
        coefficients = int(histograms.magnitudes.sum())
        print(f"{out}: tables of {coefficients} weighted coefficients", file=sys.stderr)
    if leave_one_out:
        with waiting("measuring each source with the others' tables"):
            rows = measure(prepared, counts, build_tables(histograms))
        show(rows, as_json)


def train_one_sided(
    samples: Sequence[Samples],
    out: Path | None,
    leave_one_out: bool,
    as_json: bool,
    weights_of: Path | None = None,
) -> None:
    """Train the one-sided mode's parameters and tables, and measure them as `train` does.

    weights_of: a file of such tables, to predict as they do and only find classes and tables anew.

    Raises:
        FeatureError: as `train`, or features that are not one-sided.
        TableError: too few or too uniform ones; or there are no such tables in the file.
    """
    _check(samples, out, leave_one_out)
    kept = None if weights_of is None else load_one_sided(weights_of)[0]
    sources = [read_source(each.name, each.arrays, each.grid) for each in samples]
    if out is not None:
        with waiting("training"):
            parameters, histograms = train_parameters(sources, kept)
        save_one_sided(parameters, histograms, out)
        print(f"{out}: tables of {int(histograms.indices.sum())} indices", file=sys.stderr)
    if leave_one_out:
        named = [(each.name, source) for each, source in zip(samples, sources, strict=True)]
        with waiting("training on the others for each source"):
            rows = measure_one_sided(named, kept)
        show(rows, as_json)


def _check(samples: Sequence[Samples], out: Path | None, leave_one_out: bool) -> None:
    if out is None and not leave_one_out:
        raise FeatureError("nothing to do: give --out FILE, --leave-one-out, or both")
    if leave_one_out and len(samples) < 2:
        raise FeatureError(f"{len(samples)} source: two or more can be measured on each other")
    if leave_one_out and len({model_of(each.name) for each in samples}) < 2:
        raise FeatureError(f"all {len(samples)} sources are of one model, by their names")


def show(rows: Sequence[Universality], as_json: bool) -> None:
    """Print bits a feature, and by how much the others' tables are above the own ideal ones."""
    figures = [_figures(row) for row in rows]
    if as_json:
        print(json.dumps(figures))
        return
    shown = [name for name in _COLUMNS if name in figures[0]]
    cells = [
        [Path(row["source"]).name]
        + [f"{row[n] - 1:+.1%}" if n.endswith("ratio") else f"{row[n]:.3f}" for n in shown]
        for row in figures
    ]
    print_table(["source", *(_COLUMNS[name] for name in shown)], cells)


def _figures(row: Universality) -> dict[str, Any]:
    """Return what is known of a source, with the ratio of others' bits to own ones."""
    figures = row._asdict() | {"ratio": row.others / row.own}
    if row.learned is not None:
        figures["learned_ratio"] = row.others / row.learned
    if row.trellis_others is not None and row.trellis_own is not None:
        figures["trellis_ratio"] = row.trellis_others / row.trellis_own
    return {name: figure for name, figure in figures.items() if figure is not None}
