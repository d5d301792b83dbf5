"""Progress: what a bar shows on a terminal."""

import re

import pytest
from featurewire_client import progress
from rich.console import Console


@pytest.fixture
def shown(monkeypatch):
    """Everything that a bar has shown, such as "1/3 head"."""
    monkeypatch.setenv("TERM", "xterm-256color")  # a dumb one shows no bar
    console = Console(force_terminal=True, width=100, record=True, stderr=True)
    monkeypatch.setattr(progress, "Console", lambda stderr: console)

    def found() -> list[str]:
        text = console.export_text(clear=False)
        return [f"{count} {name}" for count, name in re.findall(r"(\d+/\d+) \S+ (\w+)", text)]

    return found


def test_each_phase_counts_its_own_steps(shown, monkeypatch):
    with progress.phases() as begin:
        for name, total in [("head", 2), ("head", 2), ("tail", 3), ("tail", 3), ("tail", 3)]:
            begin(name, total)
    assert shown()[-1] == "2/3 tail"
    with progress.phases() as begin:
        begin("head", 2)
        begin("head", 2)
    assert shown()[-1] == "1/2 head"


def test_steps_are_counted_whatever_they_are_called(shown):
    with progress.steps(3) as begin:
        for name in ("layers_0", "layers_1", "layers_2"):
            begin(name)
    assert shown()[-1] == "2/3 layers_2"
