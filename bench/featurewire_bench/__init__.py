"""The bench: an emulated link, the bundled models' tasks, and the tables and charts they give.

Flows in: models, codecs, a link's rate and delay. Flows out: measured bytes, bits and milliseconds.
"""

from featurewire_bench.errors import BenchError
from featurewire_bench.process import ServerProcess
from featurewire_bench.relay import Relay

__all__ = ["BenchError", "Relay", "ServerProcess"]
