"""Progress on a terminal, on stderr; nothing where stderr is none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Begin = Callable[[str, int], None]
"""Called with a phase's name and its number of steps as each of these begins."""


@contextmanager
def steps(total: int) -> Iterator[Callable[[str], None]]:
    """A bar of `total` steps; call what it gives with the name of each step that begins."""
    with _bar() as progress:
        task = progress.add_task("", total=total)
        begun = 0

        def begin(name: str) -> None:
            nonlocal begun
            progress.update(task, completed=begun, description=name)
            begun += 1

        yield begin


@contextmanager
def phases() -> Iterator[Begin]:
    """A bar that starts anew with each phase."""
    with _bar() as progress:
        task = progress.add_task("")
        phase, begun = "", 0

        def begin(name: str, total: int) -> None:
            nonlocal phase, begun
            if name != phase:
                phase, begun = name, 0
                progress.reset(task)
            progress.update(task, completed=begun, total=total, description=name)
            begun += 1

        yield begin


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
