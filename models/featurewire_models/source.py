"""A model's name goes in; its local folder and its revision come out.

A name is a bundled model's, a local folder's path or a hub id (``owner/name``), tried in this
order, and all three end as the same kind of folder. ``@`` and a revision may follow it. Of a hub
model only the configuration and the tokenizer are fetched at first, and each weight file when a
half first needs it.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from featurewire_models.errors import SourceError
from featurewire_models.hub import download

BUNDLED = Path(__file__).parent / "bundled"
SMALL_FILES = ("*.json", "*.txt", "*.model", "profiles/*")
CONFIGS = ("config.json", "model_index.json", "scheduler_config.json")
INDEX = ".safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000  # the limit that the safetensors format itself sets
SAMPLES, SAMPLE_BYTES = 32, 4096  # of each weight file's data, evenly spaced, both ends included


@dataclass(frozen=True)
class Source:
    """Where a model's files are.

    ``name`` is the same on every machine: the bundled name, the folder's own name or the hub id.
    ``revision`` is the hub's commit, or for other folders a digest of their content.
    """

    name: str
    path: Path
    revision: str
    repo_id: str | None = None

    def fetch(self, *patterns: str) -> None:
        """Makes sure that the files of those patterns lie in the folder; SourceError if not."""
        if self.repo_id is not None:
            download(self.repo_id, self.revision, patterns)


def resolve(model: str | Path, revision: str | None = None) -> Source:
    """The folder that the name stands for.

    ``revision`` is a branch, tag or commit of a hub model; of other folders the digest that they
    must have, or that of the whole, where a folder lacks shards that its index names and so has
    none of its own. It goes before the one in the name. Raises SourceError when there is no such
    model or it has another revision.
    """
    name, pinned = parse(model)
    revision = revision or pinned
    if name in bundled_names():
        return _local(BUNDLED / name, revision)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _local(folder.resolve(), revision)
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) is None:
        choice = ", ".join(bundled_names()) or "none"
        raise SourceError(
            f"There is no model {name!r}: it is no bundled model ({choice}), no local folder "
            "and no hub id of the form owner/name."
        )
    path = download(name, revision, SMALL_FILES)
    return Source(name=name, path=path, revision=path.name, repo_id=name)


def parse(model: str | Path) -> tuple[str, str | None]:
    """A model's name and the revision behind its ``@``; a folder's own name may have one in it."""
    name, _, revision = str(model).rpartition("@")
    if not (name and revision) or Path(model).expanduser().is_dir():
        return str(model), None
    return name, revision


def bundled_names() -> tuple[str, ...]:
    """The models that come with the package."""
    if not BUNDLED.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in BUNDLED.iterdir() if entry.is_dir()))


def _local(folder: Path, revision: str | None) -> Source:
    found = fingerprint(folder)
    if revision is not None and lacks_shards(folder):
        found = revision
    if revision is not None and revision != found:
        raise SourceError(f"{folder.name} has revision {found}, not {revision}.")
    return Source(name=folder.name, path=folder, revision=found)


def lacks_shards(folder: Path) -> bool:
    """Whether an index names files that are not there: one half's are enough for it."""
    for index in [*folder.glob(f"*{INDEX}"), *folder.glob(f"*/*{INDEX}")]:
        try:
            files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # what is wrong with it is said when weights are looked up
        if not all((index.parent / str(file)).is_file() for file in files):
            return True
    return False


def fingerprint(folder: Path) -> str:
    """SHA-256 (hex) of a model folder and its task folders, in bounded time for any size.

    It covers the configurations, and of each safetensors file the name, the size, the header
    and evenly spaced blocks of the data. So both halves' owners find the same digest whatever
    part of the weights they read, and a retrained model has another one.
    """
    digest = hashlib.sha256()
    patterns = [*CONFIGS, "*.safetensors"]
    paths = {path for name in patterns for path in [*folder.glob(name), *folder.glob(f"*/{name}")]}
    for path in sorted(paths):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        if path.suffix == ".json":
            digest.update(path.read_bytes())
            continue
        with path.open("rb") as file:
            for block in _sampled(file, path.stat().st_size):
                digest.update(block)
    return digest.hexdigest()


def _sampled(file: BinaryIO, size: int) -> Iterator[bytes]:
    prefix = file.read(8)
    header = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
    yield prefix + file.read(min(header, MAX_HEADER_BYTES))
    first, last = file.tell(), size - SAMPLE_BYTES
    step = max((last - first) // (SAMPLES - 1), SAMPLE_BYTES)
    for offset in [*range(first, max(last, first + 1), step), max(last, first)]:
        file.seek(offset)
        yield file.read(SAMPLE_BYTES)
