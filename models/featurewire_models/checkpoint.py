"""A model folder's safetensors files, one or many shards: a tensor's name in, where it lies out."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from featurewire_models.errors import WeightsError
from featurewire_models.source import Source

MAX_INDEX_BYTES = 100_000_000
PIECE_BYTES = 64_000_000
AGAIN = "copy or download the folder again"


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, not read yet.

    ``name`` is the whole model's for it. ``shape`` is None where the file holds it fused with
    others, which ``parts`` takes apart. ``dtype`` is safetensors' name, such as "BF16".
    """

    name: str
    path: Path
    key: str
    shape: torch.Size | None
    dtype: str
    parts: Any = None

    def read(self, dtype: torch.dtype) -> Tensor:
        """The tensor, in ``dtype`` if it holds floats; WeightsError for a damaged file."""
        try:
            tensor = _read(self.path, self.key, dtype)
        except (SafetensorError, OSError) as error:
            message = f"The file {self.path.name} cannot be read ({error}); {AGAIN}."
            raise WeightsError(message) from error
        return tensor if self.parts is None else self.parts(self.key, tensor)[self.name]


class Checkpoint:
    """The weights in a folder, by the names that the model's class gives them.

    ``whole`` is the skeleton of the whole model. Files saved by other versions of transformers, or
    from the class without its task head, name tensors differently: transformers' own renamings are
    applied. Call it with a name to find that tensor.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        whole: nn.Module,
        file: str = "model.safetensors",
    ) -> None:
        self._source, self._folder, self._config = source, folder, whole.config
        part = folder.relative_to(source.path).parts  # of a model of several
        self._name = "/".join((source.name, *part))
        self._tied: dict[str, str] = getattr(whole, "all_tied_weights_keys", {})
        self._files = self._list_files(file)
        self._places = self._list_places(whole)

    def __call__(self, name: str) -> Stored:
        """Where one tensor is, its file there; WeightsError if the folder lacks it."""
        if name not in self._places and name in self._tied:
            name = self._tied[name]
        if name not in self._places:
            raise WeightsError(
                f"The weights in {self._name} lack the tensor {name}; give a folder whose "
                "config.json and weights are of one model."
            )
        key, converter = self._places[name]
        path = self._open_path(self._files[key])
        try:
            with safe_open(path, framework="pt") as file:
                held = file.get_slice(key)
                shape, dtype = torch.Size(held.get_shape()), str(held.get_dtype())
        except (SafetensorError, OSError) as error:
            message = f"The file {path.name} cannot be read ({error}); {AGAIN}."
            raise WeightsError(message) from error
        if converter is None:
            return Stored(name, path, key, shape, dtype)
        return Stored(name, path, key, None, dtype, functools.partial(self._convert, converter))

    def __contains__(self, name: str) -> bool:
        return name in self._places or self._tied.get(name) in self._places

    def _list_files(self, file: str) -> dict[str, str]:
        """Which file holds which tensor, by the names in the files."""
        index = self._folder / f"{file}.index.json"
        if index.is_file():
            if index.stat().st_size > MAX_INDEX_BYTES:
                raise WeightsError(f"{index.name} is larger than {MAX_INDEX_BYTES} bytes.")
            try:
                found = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
                if not all(isinstance(name, str) for name in found.values()):
                    raise TypeError("a file's name is no text")
                return found
            except (ValueError, KeyError, TypeError) as error:
                raise WeightsError(f"{index.name} is no index of weight files; {AGAIN}.") from error
        try:
            with safe_open(self._open_path(file), framework="pt") as opened:
                return dict.fromkeys(opened.keys(), file)
        except SafetensorError as error:
            raise WeightsError(f"{file} is damaged ({error}); {AGAIN}.") from error

    def _open_path(self, file: str) -> Path:
        path = self._folder / file
        if Path(file).name != file:
            raise WeightsError(f"The index of weights names {file!r}, which is no file name.")
        if not path.is_file():
            self._source.fetch(path.relative_to(self._source.path).as_posix())
        if not path.is_file():
            pickled = [*self._folder.glob("*.bin"), *self._folder.glob("*.pth")]
            to_do = AGAIN
            if pickled and not [*self._folder.glob("*.safetensors")]:
                to_do = f"{pickled[0].name} is never unpickled here: save it as safetensors"
            raise WeightsError(f"The weight file {file} is missing in {self._name}; {to_do}.")
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
