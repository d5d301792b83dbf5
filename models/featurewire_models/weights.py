"""A module without weights and a model folder go in; the module with its weights comes out.

Halves are first built on the meta device, where tensors take no memory, with only the modules
they own. Then the tensors that those modules name are looked up in the folder's files, all of them
before any is read, and read one at a time.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from featurewire_models.checkpoint import Stored
from featurewire_models.errors import (
    ArchitectureError,
    PlacementError,
    WeightsError,
    one_line,
)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
STORED_FLOATS = ("F64", "F32", "F16", "BF16")
AUTO = "auto"
Module = TypeVar("Module", bound=nn.Module)
TensorOf = Callable[[str], Tensor | Stored]


class Placement(NamedTuple):
    """What numbers the weights become and where they live.

    ``spreads``: where one GPU is too small for a half it may take all of the machine's.
    """

    dtype: torch.dtype
    device: torch.device
    spreads: bool = False


LOOKED_UP = Placement(torch.float32, torch.device("meta"))
"""Every tensor is looked up, its shape too, and none is read: the module stays without weights."""


def place(dtype: str, device: str) -> Placement:
    """The named dtype and device, "auto" being a GPU where there is one, and several if need be.

    PlacementError if there is no such.
    """
    if dtype not in DTYPES:
        raise PlacementError(f"The dtype {dtype!r} is not one of {', '.join(DTYPES)}.")
    if device == AUTO:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    spreads = device == "cuda" and torch.cuda.device_count() > 1
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise PlacementError(
            f"The device {device!r} cannot be used here; cpu can, and {AUTO} finds a GPU if any is."
        ) from error
    return Placement(DTYPES[dtype], found, spreads)


def skeleton(module_class: Callable[[Any], Module], config: Any) -> Module:
    """The module of that configuration on the meta device: names and shapes, no memory.

    ArchitectureError for a configuration that the class cannot be built from.
    """
    if isinstance(config, PreTrainedConfig):
        config = copy.deepcopy(config)
        _name_dtype(config)
    try:
        with torch.device("meta"):
            return module_class(config).eval()
    except Exception as error:  # whatever a class does with numbers that make no sense
        message = f"config.json describes no model that can be built ({one_line(error)})."
        raise ArchitectureError(message) from error


def _name_dtype(config: PreTrainedConfig) -> None:
    """Names the process's own element type in a configuration and those within it.

    Where it names another one, transformers sets it for the whole process while it builds a
    module: what runs in other threads meanwhile would compute in it. Weights bring their own.
    """
    config.dtype = torch.get_default_dtype()
    for part in vars(config).values():
        if isinstance(part, PreTrainedConfig):
            _name_dtype(part)


def fill(module: nn.Module, tensor_of: TensorOf, placement: Placement | None = None) -> None:
    """Gives each parameter and saved buffer of ``module`` the tensor that its name stands for.

    Without a placement they are taken as they are, so two modules filled from one model share its
    memory; for ``LOOKED_UP`` they are only looked for. Raises WeightsError for a tensor of another
    shape, and PlacementError where the devices have no room.
    """
    device_of = _devices(module, placement) if placement is not None else None
    tied: dict[str, str] = getattr(module, "all_tied_weights_keys", {})
    expected = module.state_dict()
    # one tensor, in memory too, where a matrix is tied to another of this module
    found = {name: tensor_of(name) for name in expected if tied.get(name) not in expected}
    for name, tensor in found.items():
        _check_shape(tensor, name, expected[name].shape)
        if isinstance(tensor, Stored) and expected[name].is_floating_point():
            _check_dtype(tensor)
    if placement is LOOKED_UP:
        return
    state: dict[str, Tensor] = {}
    for name, stored in found.items():
        tensor = stored
        if isinstance(tensor, Stored):
            assert placement is not None, "what is read from files is placed"
            tensor = tensor.read(placement.dtype)
            _check_shape(tensor, name, expected[name].shape)
        state[name] = tensor if device_of is None else tensor.to(device_of(name))
    state |= {name: state[tied[name]] for name in expected if name not in state}
    module.load_state_dict(state, assign=True)
    device = next((tensor.device for tensor in state.values()), torch.device("cpu"))
    for part in module.modules():
        _recompute(part, device)
    if len({tensor.device for tensor in state.values()}) > 1:
        from featurewire_models.spread import bridge

        bridge(module)


def _check_shape(tensor: Tensor | Stored, name: str, expected: torch.Size) -> None:
    if tensor.shape is None or tensor.shape == expected:
        return
    name = tensor.name if isinstance(tensor, Stored) else name
    raise WeightsError(
        f"The tensor {name} has shape {list(tensor.shape)} in the weights, but the configuration "
        f"asks for {list(expected)}; give a folder whose config.json and weights are of one model."
    )


def _check_dtype(stored: Stored) -> None:
    if stored.dtype not in STORED_FLOATS:
        raise WeightsError(
            f"The tensor {stored.name} holds {stored.dtype} in {stored.path.name}, which only a "
            f"quantised model's own code understands; {', '.join(STORED_FLOATS)} are read."
        )


def _devices(module: nn.Module, placement: Placement) -> Callable[[str], torch.device]:
    """Where each tensor of a module without weights goes."""
    if placement.spreads:
        from featurewire_models.spread import free_bytes, spread

        room = free_bytes()
        weights = sum(tensor.numel() for tensor in module.state_dict().values())
        if weights * placement.dtype.itemsize > room[0]:
            return spread(module, placement.dtype, room)
    return lambda _: placement.device


def _recompute(part: Any, device: torch.device) -> None:
    """Fills the buffers that are computed rather than saved; they stayed on the meta device."""
    for name, buffer in list(part.named_buffers(recurse=False)):
        if not buffer.is_meta or device.type == "meta":
            continue
        if name in ("inv_freq", "original_inv_freq"):  # rotary embeddings: only the class knows how
            fresh = getattr(type(part)(config=part.config), name)
        elif name == "position_ids":
            fresh = torch.arange(buffer.shape[-1]).expand(1, -1)
        elif name == "token_type_ids":
            fresh = torch.zeros(buffer.shape, dtype=torch.long)
        else:
            raise WeightsError(f"The weights lack {name} of {type(part).__name__}.")
        part.register_buffer(name, fresh.to(device), persistent=False)


def shift_blocks(name: str, stack: str, by: int) -> str:
    """A half's tensor name in the whole model, where block i of ``stack`` is block i + by."""
    return re.sub(rf"({re.escape(stack)}\.)(\d+)", lambda m: f"{m[1]}{int(m[2]) + by}", name)


def shared(module: nn.Module) -> TensorOf:
    """The tensors of a module in memory, by name: what its halves are filled with."""
    return dict(module.state_dict(keep_vars=True)).__getitem__
