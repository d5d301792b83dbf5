"""What a session may be: a handshake in; the agreed terms, or a refusal with both values, out."""

from dataclasses import dataclass, replace

from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire import limits
from featurewire.wire.profiles import ProfileSet
from featurewire.wire.status import Refusal
from featurewire_models import Tail
from featurewire_models.text_stream import Vocabulary

from featurewire_server.tails import Served, Tails


@dataclass(frozen=True)
class Terms:
    """What client and server agreed on for one session.

    `vocabulary` is the tokenizer's, where there is one, and `context` the tokens the model holds.
    """

    model: str
    revision: str
    split: str
    task: str
    codec: str
    dtype: str
    tail: Tail
    profiles: ProfileSet
    vocabulary: Vocabulary | None = None
    context: int = 0

    def reply(self) -> pb.HandshakeReply:
        return pb.HandshakeReply(
            protocol=limits.PROTOCOL_MAX,
            model=self.model,
            revision=self.revision,
            split=self.split,
            task=self.task,
            codec=self.codec,
            profiles=self.profiles.digest,
            dtype=self.dtype,
            limits=pb.Limits(
                max_chunk_bytes=limits.MAX_CHUNK_BYTES,
                max_chunks_in_flight=limits.MAX_CHUNKS_IN_FLIGHT,
                max_features=limits.MAX_FEATURES,
                max_uncoded_bytes=limits.MAX_UNCODED_BYTES,
            ),
        )


def agree(offer: pb.Handshake, tails: Tails, dtype: str) -> Terms:
    """The terms of a session.

    Args:
        offer: the client's handshake; empty split, task and dtype mean the server's own.
        dtype: element type that the server's tails compute in.

    Raises:
        Refusal: protocol, model, revision, split, task, codec, profiles or dtype do not match.
    """
    if offer.protocol_min > limits.PROTOCOL_MAX or offer.protocol_max < limits.PROTOCOL_MIN:
        raise _mismatch(
            "PROTOCOL_MISMATCH",
            "protocol",
            f"{offer.protocol_min} to {offer.protocol_max}",
            f"{limits.PROTOCOL_MIN} to {limits.PROTOCOL_MAX}",
        )
    model = tails.find(offer.model)
    if offer.revision != model.info.revision:
        what = f"revision of {offer.model}"
        raise _mismatch("REVISION_MISMATCH", what, offer.revision, model.info.revision)
    task = offer.task or model.info.default_task
    if task not in model.info.tasks:
        what = f"task of {offer.model}"
        raise _mismatch("TASK_UNKNOWN", what, task, ", ".join(model.info.tasks))
    split = offer.split or model.default_split
    if split not in model.splits:
        what = f"split point of {offer.model}"
        raise _mismatch("SPLIT_UNKNOWN", what, split, _range(model.splits))
    if offer.codec not in limits.CODECS:
        raise _mismatch("CODEC_UNKNOWN", "codec", offer.codec, ", ".join(limits.CODECS))
    if offer.dtype and offer.dtype != dtype:
        raise _mismatch("DTYPE_MISMATCH", "dtype", offer.dtype, dtype)
    return Terms(
        model=offer.model,
        revision=offer.revision,
        split=split,
        task=task,
        codec=offer.codec,
        dtype=dtype,
        tail=model.tail(task, split),
        profiles=_profiles(offer, model, task, split),
        vocabulary=model.vocabularies.get(task),
        context=model.info.context or 0,
    )


def _profiles(offer: pb.Handshake, model: Served, task: str, split: str) -> ProfileSet:
    held = model.profiles[task, split]
    if not offer.profiles:
        return replace(held, profiles={})
    if offer.profiles != held.digest:
        what = f"profiles of {offer.model} at {split}"
        raise _mismatch("PROFILE_MISMATCH", what, offer.profiles, held.digest or "none")
    return held


def _mismatch(reason: str, what: str, found: str, allowed: str) -> Refusal:
    message = f"{what}: the client has {found[:80] or 'none'!r}, the server {allowed!r}"
    return Refusal(reason, message, found=found, allowed=allowed)


def _range(splits: tuple[str, ...]) -> str:
    return splits[0] if len(splits) == 1 else f"{splits[0]} to {splits[-1]}"
