"""What a request may take: milliseconds, bytes, and the qualities to choose from."""

import math
from dataclasses import dataclass

from featurewire_client.errors import SettingError


@dataclass(frozen=True)
class Budget:
    """What a request may take.

    Attributes:
        latency_ms: from the call to its answer; of a generation, to its first token.
        request_bytes: aimed at for a request's, or a text's prompt's, bytes as sent; the first
            requests teach how much that is.
        least_snr_db, most_snr_db: the qualities to choose from, in dB.

    Raises:
        SettingError: a bound allows nothing or is infinite, or the least quality is above the most.
    """

    latency_ms: float | None = None
    request_bytes: int | None = None
    least_snr_db: float = 5.0
    most_snr_db: float = 30.0

    def __post_init__(self) -> None:
        if self.latency_ms is not None and not 0 < self.latency_ms < math.inf:
            found = f"{self.latency_ms:g} ms"
            raise SettingError(f"a budget's latency is {found}; a finite one above 0 is allowed")
        if self.request_bytes is not None and not 1 <= self.request_bytes < math.inf:
            found = f"{self.request_bytes} bytes"
            raise SettingError(f"a budget's size is {found}; a finite one from 1 on is allowed")
        if not self.least_snr_db <= self.most_snr_db:
            found = f"{self.least_snr_db:g} dB, and the most {self.most_snr_db:g} dB"
            raise SettingError(f"a budget's least quality is {found}; the least must not be above")
