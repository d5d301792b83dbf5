"""A module without weights and a model folder go in; the module with its weights comes out.

Halves are first built on the meta device, where tensors take no memory, with only the modules
they own. Then just the tensors those modules name are read, one at a time, from the folder's
safetensors files, be they one or many shards.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from featurewire_models.errors import PlacementError, WeightsError
from featurewire_models.source import Source

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
AUTO = "auto"
MAX_INDEX_BYTES = 100_000_000
PIECE_BYTES = 64_000_000
Module = TypeVar("Module", bound=nn.Module)
TensorOf = Callable[[str], Tensor]


class Placement(NamedTuple):
    """What numbers the weights become and where they live.

    ``spreads``: where one GPU is too small for a half it may take all of the machine's.
    """

    dtype: torch.dtype
    device: torch.device
    spreads: bool = False


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
    """The module of that configuration on the meta device: names and shapes, no memory."""
    if isinstance(config, PreTrainedConfig):
        config = copy.deepcopy(config)
        _name_dtype(config)
    with torch.device("meta"):
        return module_class(config).eval()


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
    memory. Raises WeightsError for a tensor of another shape, and PlacementError where the devices
    have no room.
    """
    device_of = _devices(module, placement) if placement is not None else None
    tied: dict[str, str] = getattr(module, "all_tied_weights_keys", {})
    state: dict[str, Tensor] = {}
    for name, expected in module.state_dict().items():
        if tied.get(name) in state:
            state[name] = state[tied[name]]  # one tensor, in memory too
            continue
        tensor = tensor_of(name)
        if tensor.shape != expected.shape:
            raise WeightsError(
                f"The tensor {name} has shape {list(tensor.shape)} in the weights, but the "
                f"configuration asks for {list(expected.shape)}."
            )
        if placement is not None and device_of is not None:
            tensor = tensor.to(device_of(name))
        state[name] = tensor
    module.load_state_dict(state, assign=True)
    device = next((tensor.device for tensor in state.values()), torch.device("cpu"))
    for part in module.modules():
        _recompute(part, device)
    if len({tensor.device for tensor in state.values()}) > 1:
        from featurewire_models.spread import bridge

        bridge(module)


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


class Checkpoint:
    """The weights in a folder, by the names that the model's class gives them.

    ``whole`` is the skeleton of the whole model. Files saved by other versions of transformers, or
    from the class without its task head, name tensors differently: transformers' own renamings are
    applied. Call it with a name to read that tensor, in ``dtype`` if it holds floats.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        whole: nn.Module,
        dtype: torch.dtype,
        file: str = "model.safetensors",
    ) -> None:
        self._source, self._folder, self._config = source, folder, whole.config
        self._dtype = dtype
        self._tied: dict[str, str] = getattr(whole, "all_tied_weights_keys", {})
        self._files = self._list_files(file)
        self._places = self._list_places(whole)

    def __call__(self, name: str) -> Tensor:
        """Reads one tensor; WeightsError if the folder lacks it."""
        if name not in self._places and name in self._tied:
            name = self._tied[name]
        if name not in self._places:
            raise WeightsError(f"The weights in {self._folder.name} lack the tensor {name}.")
        key, converter = self._places[name]
        path = self._open_path(self._files[key])
        try:
            tensor = _read(path, key, self._dtype)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"The file {self._files[key]} cannot be read ({error}).") from error
        return tensor if converter is None else self._convert(converter, key, tensor)[name]

    def __contains__(self, name: str) -> bool:
        return name in self._places or self._tied.get(name) in self._places

    def _list_files(self, file: str) -> dict[str, str]:
        """Which file holds which tensor, by the names in the files."""
        index = self._folder / f"{file}.index.json"
        if index.is_file():
            if index.stat().st_size > MAX_INDEX_BYTES:
                raise WeightsError(f"{index.name} is larger than {MAX_INDEX_BYTES} bytes.")
            try:
                return dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
            except (ValueError, KeyError, TypeError) as error:
                raise WeightsError(f"{index.name} is no index of weight files.") from error
        try:
            with safe_open(self._open_path(file), framework="pt") as opened:
                return dict.fromkeys(opened.keys(), file)
        except SafetensorError as error:
            raise WeightsError(f"{file} is damaged ({error}).") from error

    def _open_path(self, file: str) -> Path:
        path = self._folder / file
        if Path(file).name != file:
            raise WeightsError(f"The index of weights names {file!r}, which is no file name.")
        if not path.is_file():
            self._source.fetch(path.relative_to(self._source.path).as_posix())
        if not path.is_file():
            raise WeightsError(f"The weight file {file} is missing in {self._folder.name}.")
        return path

    def _list_places(self, whole: nn.Module) -> dict[str, tuple[str, WeightConverter | None]]:
        """Where each of the model's tensors is, by the names in the model."""
        transforms = get_model_conversion_mapping(whole)
        renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
        converters = [t for t in transforms if isinstance(t, WeightConverter)]
        names = whole.state_dict()
        prefix = getattr(whole, "base_model_prefix", None)
        places: dict[str, tuple[str, WeightConverter | None]] = {}
        for key in self._files:
            name, pattern = rename_source_key(key, renamings, converters, prefix, names)
            if pattern is None:
                places[name] = (key, None)
                continue
            converter = next(c for c in converters if pattern in c.source_patterns)
            for target in converter.target_patterns:
                places[name.replace(converter.target_patterns[0], target)] = (key, converter)
        return places

    def _convert(self, converter: WeightConverter, key: str, tensor: Tensor) -> dict[str, Tensor]:
        """What a fused tensor of the file stands for, such as the two halves of a SwiGLU layer."""
        target, pattern = next(
            (name, converter.source_patterns[0])
            for name, (place, _) in self._places.items()
            if place == key
        )
        converter.add_tensor(target, key, pattern, tensor)
        converted: dict[str, Tensor] = converter.convert(target, config=self._config)
        return converted


def _read(path: Path, key: str, dtype: torch.dtype) -> Tensor:
    """One tensor of a file; floats become ``dtype``.

    Without a conversion nothing is copied: the file stays mapped, so processes share its pages.
    from_pretrained does so too, and where a tensor lies in memory can decide the last bit of a
    matrix product. A large conversion goes piece by piece, each from a mapping of its own: what
    has been read of a mapping stays in memory with it.
    """
    mapped = _mapped(path, key)
    if not mapped.is_floating_point() or mapped.dtype == dtype:
        return mapped
    if mapped.nbytes <= PIECE_BYTES or not mapped.dim():
        return mapped.to(dtype)
    converted = torch.empty(mapped.shape, dtype=dtype)
    rows = max(PIECE_BYTES // max(mapped[0].nbytes, 1), 1)
    for first in range(0, len(mapped), rows):
        converted[first : first + rows] = _mapped(path, key)[first : first + rows]
    return converted


def _mapped(path: Path, key: str) -> Tensor:
    with safe_open(path, framework="pt") as file:
        tensor: Tensor = file.get_tensor(key)
    return tensor
