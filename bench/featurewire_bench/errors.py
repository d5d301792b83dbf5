"""The bench's errors, each with one sentence that a person can act on.

BenchError
├── LinkError           an impossible address, rate or delay; a relay that cannot listen
├── ServerProcessError  the server died or never became healthy; tells its last lines
├── LoadError           too few requests were answered while load was measured
├── SampleError         a held-out sample is missing or is not what its task needs
└── MissingExtraError   an optional library is not installed
"""


class BenchError(Exception):
    """Base of all errors that the bench raises on purpose."""


class LinkError(BenchError):
    """The emulated link was asked for something impossible."""


class ServerProcessError(BenchError):
    """The server process ended or never said SERVING."""


class LoadError(BenchError):
    """No request was answered in time."""


class SampleError(BenchError):
    """A bundled sample is missing or malformed."""


class MissingExtraError(BenchError):
    """A library of the `bench` extra is not installed."""
