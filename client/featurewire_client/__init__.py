"""The edge: runs the head, encodes its features, sends them, and takes the answer.

Names are imported when they are first used: torch and transformers take seconds to import, and
`featurewire --help` needs neither.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from featurewire_client.budget import Budget
    from featurewire_client.client import InferResult, SplitClient
    from featurewire_client.errors import (
        AddressError,
        ClientError,
        ConnectionFailedError,
        ConnectionLostError,
        DeadlineError,
        RefusedError,
        SessionError,
        SettingError,
    )
    from featurewire_client.stats import InferStats
    from featurewire_client.sync import SyncSplitClient

__all__ = [
    "AddressError",
    "Budget",
    "ClientError",
    "ConnectionFailedError",
    "ConnectionLostError",
    "DeadlineError",
    "InferResult",
    "InferStats",
    "RefusedError",
    "SessionError",
    "SettingError",
    "SplitClient",
    "SyncSplitClient",
]

_MODULES = {
    "Budget": "budget",
    "InferResult": "client",
    "InferStats": "stats",
    "SplitClient": "client",
    "SyncSplitClient": "sync",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"featurewire_client has no {name!r}")
    return getattr(import_module(f"featurewire_client.{_MODULES.get(name, 'errors')}"), name)
