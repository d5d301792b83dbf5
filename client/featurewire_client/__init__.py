"""The edge: runs the head, encodes its features, sends them, and takes the answer."""

from featurewire_client.client import InferResult, SplitClient
from featurewire_client.errors import (
    ClientError,
    ConnectionFailedError,
    DeadlineError,
    RefusedError,
    SessionError,
)
from featurewire_client.stats import InferStats
from featurewire_client.sync import SyncSplitClient

__all__ = [
    "ClientError",
    "ConnectionFailedError",
    "DeadlineError",
    "InferResult",
    "InferStats",
    "RefusedError",
    "SessionError",
    "SplitClient",
    "SyncSplitClient",
]
