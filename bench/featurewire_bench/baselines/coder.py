"""What every baseline is: a pair of inverse functions, made from calibration samples and a setting.

The shape of a feature, its grid and everything calibrated are known on both sides and not counted;
all else is.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from featurewire_bench.errors import MissingExtraError
from featurewire_bench.sources import Array, Part

Shape = tuple[int, int]


class Coder(Protocol):
    """One codec at one setting; features are float32 [tokens, channels]."""

    def encode(self, feature: Array) -> bytes:
        """All that is sent."""
        ...

    def decode(self, data: bytes, shape: Shape) -> Array:
        """The feature, as closely as the setting keeps it."""
        ...


@dataclass(frozen=True)
class Method:
    """A codec to compare: `fit` makes a coder of a part's calibration samples at an SNR in dB.

    has_knob: whether the setting means anything to it; else it is measured once. needs: a library
    of the `bench` extra that some platforms lack. settings: those that make sense to it for a
    part, where they are its own.
    """

    name: str
    fit: Callable[[Part, float], Coder]
    has_knob: bool = True
    needs: str | None = None
    settings: Callable[[Part], Sequence[float]] | None = None

    @property
    def is_available(self) -> bool:
        """Whether its library is installed."""
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


def required(module: str) -> Any:
    """An optional library; MissingExtraError tells what installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"a baseline needs {module}, which is not installed; pip install 'featurewire[bench]'"
        ) from error


def zstandard() -> Any:
    """The zstandard bindings."""
    return required("zstandard")
