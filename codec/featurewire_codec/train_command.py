"""What `featurewire-codec train` does: the samples of several models in, files of tables out."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from .console import print_table, waiting
from .errors import FeatureError
from .files import Samples
from .one_sided_tables import save_one_sided
from .one_sided_training import read_source
from .one_sided_training import train_one_sided as train_parameters
from .tables import build_tables, save_tables, total
from .training import Source, prepare, train_tables
from .universality import leave_one_out as measure
from .universality import model_of


def train(samples: Sequence[Samples], out: Path | None, leave_one_out: bool, as_json: bool) -> None:
    """Train the tables on all, and measure each source with those of the other models.

    Raises:
        FeatureError: nothing is asked for, or there is one model only to leave out.
    """
    if out is None and not leave_one_out:
        raise FeatureError("nothing to do: give --out FILE, --leave-one-out, or both")
    sources = [Source(s.name, s.arrays, s.grid) for s in samples]
    if leave_one_out and len(sources) < 2:
        raise FeatureError(f"{len(sources)} source: two or more can be measured on each other")
    if leave_one_out and len({model_of(source.name) for source in sources}) < 2:
        raise FeatureError(f"all {len(sources)} sources are of one model, by their names")
    with waiting("fitting"):
        prepared = [prepare(source) for source in sources]
    with waiting("counting"):
        counts = train_tables(prepared)
    histograms = total(counts)
    if out is not None:
        save_tables(histograms, out)
        coefficients = int(histograms.magnitudes.sum())
        print(f"{out}: tables of {coefficients} weighted coefficients", file=sys.stderr)
    if not leave_one_out:
        return
    with waiting("measuring each source with the others' tables"):
        rows = measure(prepared, counts, build_tables(histograms))
    if as_json:
        print(json.dumps([row._asdict() | {"ratio": row.others / row.own} for row in rows]))
        return
    cells = [
        [
            Path(row.source).name,
            f"{row.others:.3f}",
            f"{row.own:.3f}",
            f"{row.others / row.own - 1:+.1%}",
        ]
        for row in rows
    ]
    print_table(["source", "bits, others' tables", "bits, own ideal", "difference"], cells)


def train_one_sided(samples: Sequence[Samples], out: Path) -> None:
    """Train the one-sided mode's parameters and tables.

    Raises:
        FeatureError: features that are not one-sided.
        TableError: too few or too uniform ones.
    """
    sources = [read_source(each.name, each.arrays, each.grid) for each in samples]
    with waiting("training"):
        parameters, histograms = train_parameters(sources)
    save_one_sided(parameters, histograms, out)
    print(f"{out}: tables of {int(histograms.indices.sum())} indices", file=sys.stderr)
