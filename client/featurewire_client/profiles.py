"""The server's set of profiles for a split point: fetched once, then kept in a cache by digest."""

import shutil
import tempfile
from pathlib import Path

import grpc
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.profiles import PROFILE_FILES, Origin, ProfileSet
from featurewire_models import ModelInfo

from featurewire_client.connection import Connection
from featurewire_client.errors import SessionError, client_error

CACHE = Path.home() / ".cache" / "featurewire" / "profiles"

# A 4096-channel profile is 64 MiB; a server that announces more than this is refused.
_MAX_PROFILE_BYTES = 1 << 30
_PAGE_S = 180.0  # of 1 MiB, which 0.05 Mbit/s take almost as long for


async def fetch(connection: Connection, info: ModelInfo, split: str, task: str) -> ProfileSet:
    """The server's profiles for a split point, from the model's folder, the cache or the server.

    Raises:
        ProfileError: a profile in the folder or the cache is damaged.
        SessionError: what the server sent is not what it announced.
        ClientError: the server does not answer, or takes minutes for a page.
    """
    origin = Origin(info.name, info.revision, split, task)
    sets = connection.model(info.name).profiles
    announced = next((s for s in sets if (s.split, s.task) == (split, task)), None)
    if announced is None:
        return ProfileSet(origin)
    beside = info.profile_folder(split, task)
    if beside is not None:
        local = ProfileSet.from_pretrained(beside)
        if local.digest == announced.digest:
            return local
    kept = CACHE / announced.digest
    if kept.is_dir():
        return ProfileSet.from_pretrained(kept)
    CACHE.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=CACHE))
    try:
        for tensor in announced.tensors:
            await _download(connection, announced.digest, tensor, fresh)
        ProfileSet(origin).save_pretrained(fresh)
        fetched = ProfileSet.from_pretrained(fresh)
        if fetched.digest != announced.digest:
            raise SessionError(
                f"the server at {connection.address} announced profiles {announced.digest[:12]}"
                f" and sent {fetched.digest[:12]}"
            )
        if not kept.is_dir():
            fresh.rename(kept)
        return ProfileSet.from_pretrained(kept)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


async def _download(connection: Connection, digest: str, tensor: str, folder: Path) -> None:
    """Writes one profile's files, page by page."""
    if tensor != Path(tensor).name or tensor.startswith("."):
        raise SessionError(f"the server named a tensor {tensor!r}, which is no file name")
    (folder / tensor).mkdir()
    for name in PROFILE_FILES:
        with (folder / tensor / name).open("wb") as file:
            while True:
                request = pb.GetProfileRequest(
                    digest=digest, tensor=tensor, file=name, offset=file.tell()
                )
                try:
                    page = await connection.stub.GetProfile(request, timeout=_PAGE_S)
                except grpc.aio.AioRpcError as error:
                    raise client_error(error, connection.address) from error
                file.write(page.payload)
                if page.total_bytes > _MAX_PROFILE_BYTES:
                    raise SessionError(f"a profile of {page.total_bytes} bytes is too large")
                if not page.payload or file.tell() >= page.total_bytes:
                    break
