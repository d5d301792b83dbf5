"""The weights files: a trained network in, one safetensors file of float16 out, and back.

A file's name says what the network was trained on and at which lambda, its metadata the training.
The digest of a set of files is what a bitstream names, so that a decoder knows them to be its own.
"""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ProfileError

if TYPE_CHECKING:
    from .hyperprior import Hyperprior
    from .plane_coder import PlaneCoder

FOLDER = Path(__file__).parent / "weights"  # the hybrid networks, shipped
DIGEST_BYTES = 4


@dataclass(frozen=True, eq=False)
class Networks:
    """Trained networks at work by lambda, ascending; the first bytes of their files' SHA-256."""

    lambdas: tuple[float, ...]
    coders: "tuple[PlaneCoder, ...]"
    digest: bytes


@functools.lru_cache(maxsize=4)
def load_networks(folder: Path = FOLDER) -> Networks:
    """Load all weights files of a folder, for inference.

    Raises:
        ProfileError: there are none, or one is damaged.
    """
    from .plane_coder import PlaneCoder

    found = {}
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        network, metadata = load_network(path)
        try:
            found[float(metadata["lambda"])] = PlaneCoder(network)
        except (KeyError, ValueError) as error:
            raise ProfileError(f"{path} does not say its lambda") from error
        digest.update(path.read_bytes())
    if not found:
        raise ProfileError(f"{folder} holds no weights of a DT-UFC network")
    lambdas = tuple(sorted(found))
    coders = tuple(found[value] for value in lambdas)
    return Networks(lambdas, coders, digest.digest()[:DIGEST_BYTES])


def save_network(network: "Hyperprior", path: Path, metadata: Mapping[str, str]) -> None:
    """Write a network's weights as float16, with what is known of its training."""
    from safetensors.torch import save_file

    tensors = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, dict(metadata))


def load_network(path: Path) -> "tuple[Hyperprior, dict[str, str]]":
    """Read a network, in float32, and its metadata. The sizes follow from the tensors.

    Raises:
        ProfileError: no such file, or one that does not hold such a network.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    from .hyperprior import Hyperprior

    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        deep, wide = tensors["analysis.6.weight"].shape[:2]
        network = Hyperprior(wide, deep, tensors["hyper_analysis.0.weight"].shape[0])
        network.load_state_dict(tensors)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise ProfileError(f"{path} holds no weights of a DT-UFC network: {error}") from error
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise ProfileError(f"{path} holds weights that are not finite")
    return network, metadata
