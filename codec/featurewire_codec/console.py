"""What the commands show a person: bars, spinners and tables, on a terminal."""

import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any, TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], title: str, work: Callable[[Item], Any]) -> list[Any]:
    """Do the work on every item, under a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    bar = track(list(items), title, console=console, disable=not console.is_terminal)
    return [work(item) for item in bar]


def waiting(title: str) -> Any:
    from rich.console import Console

    return Console(stderr=True).status(title)


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def show_version(wanted: bool) -> None:
    """Print the installed version, as an option's callback, and end the command."""
    if wanted:
        print(version("featurewire"))
        sys.exit(0)
