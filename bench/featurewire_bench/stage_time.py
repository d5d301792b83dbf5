"""Processor time of a pipeline's stages, by threads' names: processes in, milliseconds out."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from featurewire_bench.errors import BenchError

STAGES = ("head", "encode", "decode", "tail")


class StageTimer:
    """What the stages take from here on.

    Args:
        processes: ids of the client's and the server's.
    """

    def __init__(self, processes: Sequence[int]) -> None:
        self._folders = [Path(f"/proc/{process}/task") for process in processes]
        self._before = self._now()

    def stages_ms(self) -> tuple[float, ...]:
        """Milliseconds of head, encoding, decoding and tail so far.

        Raises:
            BenchError: the system does not tell.
        """
        spent = self._now()
        spent.subtract(self._before)
        if not any(spent[stage] > 0 for stage in STAGES):
            raise BenchError("the system does not tell the processor time of threads; Linux does")
        return tuple(spent[stage] / 1e6 for stage in STAGES)

    def _now(self) -> Counter[str]:
        """Nanoseconds of the threads of each name, their numbers left out."""
        nanoseconds: Counter[str] = Counter()
        for folder in self._folders:
            for thread in folder.glob("*"):
                with contextlib.suppress(OSError):  # it has ended
                    name = (thread / "comm").read_text().strip().rstrip("0123456789").rstrip("_-")
                    nanoseconds[name] += int((thread / "schedstat").read_text().split()[0])
        return nanoseconds
