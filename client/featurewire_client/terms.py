"""What a client's sessions are about: what its caller asks for in, what servers are offered out."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire import limits
from featurewire.wire.profiles import Origin, ProfileSet
from featurewire_models import ModelInfo, check_weights, describe
from featurewire_models.source import lacks_shards

from featurewire_client import profiles
from featurewire_client.connection import Connection
from featurewire_client.errors import RefusedError


class Terms:
    """One model, split at one point for one task, and how its features are coded.

    Args:
        name: of the model, as its caller gives it.
        split, task, codec, profile: as of `SplitClient`.

    Attributes:
        info: what the model is; known after `look_up`.
        split, task: the server's defaults where none was asked for; known after `agree`.
        profiles: what the features are coded with; likewise.
    """

    info: ModelInfo
    split: str
    task: str
    profiles: ProfileSet

    def __init__(
        self, name: str, split: str | None, task: str | None, codec: str, profile: str | Path | None
    ) -> None:
        self.name = name
        self.codec = codec
        self._split = split
        self._task = task
        self._profile = profile

    async def look_up(self) -> None:
        """Finds out what the model is.

        Raises:
            ModelError: there is no such model here.
        """
        self.info = await asyncio.to_thread(describe, self.name)

    async def agree(
        self, connection: Connection, came: Callable[[float], None], page_s: float
    ) -> pb.Handshake:
        """What to offer to a server, from what it serves.

        `came`, `page_s`: of the pages of its profiles, as of `profiles.fetch`.

        Raises:
            ClientError: it does not serve the model, speaks another protocol, or is gone.
            CodecError: a profile is damaged or was learned from something else.
        """
        connection.check_protocol()
        served = connection.model(self.info.name)
        self.split = self._split or served.default_split
        self.task = self._task or served.default_task
        self.profiles = await self._choose_profiles(connection, came, page_s)
        return self.offer

    @property
    def offer(self) -> pb.Handshake:
        """What the first session asks for; those after it also for the dtype that it got."""
        return pb.Handshake(
            protocol_min=limits.PROTOCOL_MIN,
            protocol_max=limits.PROTOCOL_MAX,
            model=self.info.name,
            revision=self.info.revision,
            split=self.split,
            task=self.task,
            codec=self.codec,
            profiles=self.profiles.digest,
        )

    def explain(self, mismatch: RefusedError) -> None:
        """Raises what may be wrong with the folder here, where its revision is not the server's."""
        if self.info.source.repo_id is None and lacks_shards(self.info.path):
            raise RefusedError(
                f"{mismatch}; {self.info.path} lacks files that its index names: copy it again, or"
                f" put @{mismatch.allowed} behind its name if it holds this side's half",
                code=mismatch.code,
                reason=mismatch.reason,
                found=mismatch.found,
                allowed=mismatch.allowed,
            ) from mismatch
        check_weights(self.name, "head", self.split, self.task, self.info.revision)

    async def _choose_profiles(
        self, connection: Connection, came: Callable[[float], None], page_s: float
    ) -> ProfileSet:
        origin = Origin(self.info.name, self.info.revision, self.split, self.task)
        if self._profile is None or self.codec != "featurewire":
            return ProfileSet(origin)
        if self._profile == "server":
            return await profiles.fetch(connection, self.info, self.split, self.task, came, page_s)
        own = ProfileSet.from_pretrained(Path(self._profile))
        own.check(origin)
        return own
