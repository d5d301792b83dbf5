"""One run of the head: inputs in, features in main memory out, and what it took."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import torch
from featurewire_models import Features, Head
from featurewire_models.transfer import Download, Stopwatch


@dataclass
class Seconds:
    """What one request's stages took so far, and the feature points and coded bytes they made."""

    head: float = 0.0
    encode: float = 0.0
    points: int = 0
    payload_bytes: int = 0

    def count(self, encode_s: float, payload_bytes: int) -> None:
        """Adds what was coded."""
        self.encode += encode_s
        self.payload_bytes += payload_bytes


class HeadPass:
    """One pass of a head, on a GPU yet to be done when this is made."""

    def __init__(self, head: Head, inputs: Mapping[str, torch.Tensor], cache: Any) -> None:
        watch = Stopwatch(head.device)
        with torch.inference_mode():
            self._features = head(inputs, cache=cache) if cache is not None else head(inputs)
            watch.stop()
            self._copies = Download(self._features.tensors)
        self._watch = watch
        self._counted = False
        self._counting = Lock()  # its spans are coded on several threads

    @property
    def shape(self) -> torch.Size:
        """Batch, tokens and channels of its one tensor."""
        (tensor,) = self._features.tensors.values()
        return tensor.shape

    def finish(self, seconds: Seconds) -> Features:
        """The features in main memory; may be called on another thread, and again."""
        features = replace(self._features, tensors=self._copies.wait())
        with self._counting:
            if not self._counted:
                seconds.head += self._watch.seconds()
                seconds.points += sum(tensor.numel() for tensor in features.tensors.values())
                self._counted = True
        return features
