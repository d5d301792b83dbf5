"""The server's set of profiles for a split point: fetched once, then kept in a cache by digest."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grpc
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.profiles import PROFILE_FILES, Origin, ProfileSet
from featurewire_models import ModelInfo

from featurewire_client.connection import Connection
from featurewire_client.errors import ConnectionLostError, SessionError, client_error

CACHE = Path.home() / ".cache" / "featurewire" / "profiles"

# A 4096-channel profile is 64 MiB; a server that announces more than this is refused.
_MAX_PROFILE_BYTES = 1 << 30
# A page is as large as what comes in half a second or so: 0.05 Mbit/s take 2.6 s for the least.
_LEAST_PAGE, _MOST_PAGE, _PAGE_S = 16 * 1024, 1024 * 1024, 0.5
SILENT_S = 15.0


async def fetch(
    connection: Connection,
    info: ModelInfo,
    split: str,
    task: str,
    came: Callable[[float], None],
    page_s: float,
) -> ProfileSet:
    """The server's profiles for a split point, from the model's folder, the cache or the server.

    Args:
        came: hears, after each page that the server sends, how many seconds it took.
        page_s: seconds that the server has for each, 15 at most.

    Raises:
        ProfileError: a profile in the folder or the cache is damaged.
        SessionError: what the server sent is not what it announced.
        ConnectionLostError: the server is gone, or a page does not come in time.
        ClientError: it refuses.
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
            await _download(connection, announced.digest, tensor, fresh, came, page_s)
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


async def _download(
    connection: Connection,
    digest: str,
    tensor: str,
    folder: Path,
    came: Callable[[float], None],
    page_s: float,
) -> None:
    """Writes one profile's files, page by page."""
    if tensor != Path(tensor).name or tensor.startswith("."):
        raise SessionError(f"the server named a tensor {tensor!r}, which is no file name")
    (folder / tensor).mkdir()
    size = _LEAST_PAGE
    for name in PROFILE_FILES:
        with (folder / tensor / name).open("wb") as file:
            while True:
                asked = time.monotonic()
                page = await _page(
                    connection,
                    pb.GetProfileRequest(
                        digest=digest, tensor=tensor, file=name, offset=file.tell(), max_bytes=size
                    ),
                    min(page_s, SILENT_S),
                )
                took_s = time.monotonic() - asked
                came(took_s)
                wanted = 2 * size if took_s < _PAGE_S else int(size * _PAGE_S / took_s)
                size = min(max(wanted, _LEAST_PAGE), _MOST_PAGE)
                file.write(page.payload)
                if page.total_bytes > _MAX_PROFILE_BYTES:
                    raise SessionError(f"a profile of {page.total_bytes} bytes is too large")
                if not page.payload or file.tell() >= page.total_bytes:
                    break


async def _page(
    connection: Connection, request: pb.GetProfileRequest, timeout_s: float
) -> pb.GetProfileResponse:
    try:
        page: pb.GetProfileResponse = await connection.stub.GetProfile(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            message = f"the server at {connection.address} sent no page for {timeout_s:.3g} s"
            raise ConnectionLostError(message) from error
        raise client_error(error, connection.address, connected=True) from error
    return page
