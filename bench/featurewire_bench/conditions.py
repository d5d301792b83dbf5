"""The conditions of a measurement: the machine, the versions and the command."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "torch", "numba", "constriction", "zstandard", "zfpy", "pysz")


def conditions() -> dict[str, Any]:
    """The machine, the versions and the command."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "command": " ".join(argument.rpartition("/")[2] for argument in sys.argv),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
