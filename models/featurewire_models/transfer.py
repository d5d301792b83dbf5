"""Tensors between main memory and a device: there at once on a CPU, beside its computing on a GPU.

Copies to and from a GPU go through pinned memory and a stream of their own, so the GPU computes on
meanwhile. What waits here is a thread, never the GPU.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device, once all of it is there."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    stream = _stream(device)
    with torch.cuda.stream(stream):
        landed = tensor.pin_memory().to(device, non_blocking=True)
    # It belongs to this stream: its memory is not used again before what computes with it is done.
    landed.record_stream(torch.cuda.default_stream(device))
    stream.synchronize()
    return landed


class Download:
    """Tensors on their way to main memory, behind what their device is computing now."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)
        self._landed: list[torch.cuda.Event] = []
        for name, tensor in self._tensors.items():
            if tensor.is_cuda:
                self._tensors[name], landed = _begin(tensor)
                self._landed.append(landed)

    def wait(self) -> dict[str, Tensor]:
        """The tensors in main memory, of their own dtype."""
        for landed in self._landed:
            landed.synchronize()
        return self._tensors


def _begin(tensor: Tensor) -> tuple[Tensor, torch.cuda.Event]:
    stream = _stream(tensor.device)
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    stream.wait_stream(torch.cuda.current_stream(tensor.device))
    with torch.cuda.stream(stream):
        host.copy_(tensor, non_blocking=True)
        landed = stream.record_event()
    tensor.record_stream(stream)
    return host, landed


class Stopwatch:
    """The time from its making to `stop` on a device; a GPU's own, behind what it had to do yet."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._began: Any = self._now()
        self._ended = self._began

    def stop(self) -> None:
        """Ends the time, which on a GPU is yet to come."""
        self._ended = self._now()

    def seconds(self) -> float:
        """The time, once the device is so far."""
        if self._device.type != "cuda":
            return float(self._ended - self._began)
        self._ended.synchronize()
        return float(self._began.elapsed_time(self._ended)) / 1000

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event


def settle(tensor: Tensor) -> None:
    """Waits until a tensor is computed."""
    if tensor.is_cuda:
        torch.cuda.current_stream(tensor.device).synchronize()


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of a GPU's copies."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
