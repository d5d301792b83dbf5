"""Options that the commands of all parts have."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer


def _show(wanted: bool) -> None:
    if wanted:
        print(version("featurewire"))
        sys.exit(0)


Version = Annotated[
    bool,
    typer.Option("--version", callback=_show, is_eager=True, help="Shows the version and exits."),
]
