"""A half that no single GPU holds goes over several: its shapes in, a device for each tensor out.

Accelerate fills one GPU after the other, block by block, and moves what goes from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from accelerate import dispatch_model, infer_auto_device_map
from torch import nn

from featurewire_models.errors import PlacementError

USED = 0.85  # of a GPU's free memory; caches and what is being computed take the rest
GIB = 1 << 30


def free_bytes() -> dict[int, int]:
    """What halves may take of each GPU of this machine."""
    count = torch.cuda.device_count()
    return {gpu: int(USED * torch.cuda.mem_get_info(gpu)[0]) for gpu in range(count)}


def spread(
    module: nn.Module, dtype: torch.dtype, room: Mapping[int, int]
) -> Callable[[str], torch.device]:
    """Where each tensor of a module on the meta device goes, by its name.

    ``room`` is the bytes that each GPU has for it. Raises PlacementError where they do not hold it.
    """
    blocks = getattr(module, "_no_split_modules", None) or []
    places = infer_auto_device_map(
        module, dict(room), no_split_module_classes=list(blocks), dtype=dtype
    )
    if set(places.values()) - set(room):
        needed = sum(tensor.numel() for tensor in module.state_dict().values()) * dtype.itemsize
        raise PlacementError(
            f"The weights take {needed / GIB:.1f} GiB in {str(dtype).removeprefix('torch.')}, and "
            f"the {len(room)} GPUs here have {sum(room.values()) / GIB:.1f} GiB for them; a "
            "smaller half, a smaller dtype or device cpu may do."
        )

    def device_of(name: str) -> torch.device:
        part = name
        while part not in places and part:
            part = part.rpartition(".")[0]
        return torch.device("cuda", places[part])

    return device_of


def bridge(module: nn.Module) -> None:
    """Lets a module whose weights lie on several devices compute: what a part is given follows it.

    A module on one device stays as it is.
    """
    parts = dict(_uniform(module, ""))
    if len(set(parts.values())) < 2:
        return
    skipped = getattr(module, "_skip_keys_device_placement", None)
    first = next(tensor.device for tensor in module.parameters())
    dispatch_model(module, parts, main_device=first, skip_keys=skipped, force_hooks=True)


def _uniform(module: nn.Module, name: str) -> list[tuple[str, torch.device]]:
    """The largest parts of a module that lie on one device each."""
    tensors = [*module.parameters(), *module.buffers()]
    devices = {tensor.device for tensor in tensors}
    if not devices:
        return []
    if len(devices) == 1:
        return [(name, devices.pop())]
    prefix = f"{name}." if name else ""
    return [
        found
        for child, part in module.named_children()
        for found in _uniform(part, f"{prefix}{child}")
    ]
