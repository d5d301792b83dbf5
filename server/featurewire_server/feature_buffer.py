"""A feature on its way in: Begin and Chunk messages in, the coded bytes of every sample out.

Every size is checked against a limit before anything of that size is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire import limits
from featurewire.wire.coder import max_coded_bytes
from featurewire.wire.status import Refusal


@dataclass
class FeatureBuffer:
    """Collects one request's chunks.

    Attributes:
        begin: what the client announced.
        before: the tensors of the session's Begin before; a Begin without any means the same.
        received_bytes: serialised size of the messages so far, Begin included.
    """

    begin: pb.Begin
    before: Sequence[pb.CodedTensor] = ()
    received_bytes: int = 0
    chunks: int = 0
    _samples: list[list[bytes]] = field(default_factory=list)
    _sample_bytes: int = 0

    def __post_init__(self) -> None:
        self.received_bytes = self.begin.ByteSize()
        if not self.begin.tensors:
            self.begin.tensors.extend(self.before)
        _check(self.begin)

    @property
    def features(self) -> int:
        """Feature points of all tensors and samples."""
        return sum(t.batch * t.tokens * t.channels for t in self.begin.tensors)

    def add(self, chunk: pb.Chunk) -> None:
        """Keeps one chunk.

        Raises:
            Refusal: it is out of order, too large, or one more than announced.
        """
        if chunk.request != self.begin.request:
            raise _out_of_order(f"a chunk of request {chunk.request}", self.begin.request)
        payload = chunk.payload  # a copy at every read
        if len(payload) > limits.MAX_CHUNK_BYTES:
            raise _too_large("a chunk's bytes", len(payload), limits.MAX_CHUNK_BYTES)
        if chunk.tensor >= len(self.begin.tensors):
            raise _out_of_order(f"tensor {chunk.tensor}", len(self.begin.tensors))
        tensor = self.begin.tensors[chunk.tensor]
        if chunk.sample >= tensor.batch:
            raise _out_of_order(f"sample {chunk.sample}", tensor.batch)
        index = sum(t.batch for t in self.begin.tensors[: chunk.tensor]) + chunk.sample
        if index == len(self._samples):
            self._samples.append([])
            self._sample_bytes = 0
        elif index != len(self._samples) - 1:
            raise _out_of_order(f"sample {index}", len(self._samples))
        self._sample_bytes += len(payload)
        allowed = max_coded_bytes(tensor.tokens * tensor.channels)
        if self._sample_bytes > allowed:
            raise _too_large("a coded sample's bytes", self._sample_bytes, allowed)
        self._samples[-1].append(payload)
        self.received_bytes += chunk.ByteSize()
        self.chunks += 1

    def coded(self) -> dict[str, list[bytes]]:
        """The coded bytes of each tensor's samples, once the last chunk is in.

        Raises:
            Refusal: samples are missing.
        """
        announced = sum(t.batch for t in self.begin.tensors)
        if len(self._samples) != announced:
            raise _out_of_order(f"{len(self._samples)} samples", announced)
        samples = iter(self._samples)
        return {
            tensor.name: [b"".join(next(samples)) for _ in range(tensor.batch)]
            for tensor in self.begin.tensors
        }


def _check(begin: pb.Begin) -> None:
    if not 1 <= len(begin.tensors) <= limits.MAX_TENSORS:
        raise _too_large("a feature's tensors", len(begin.tensors), limits.MAX_TENSORS)
    if len({tensor.name for tensor in begin.tensors}) != len(begin.tensors):
        raise Refusal("TENSOR_MALFORMED", "two tensors of one feature have the same name")
    features = 0
    for tensor in begin.tensors:
        if not (tensor.batch and tensor.tokens and tensor.channels):
            raise Refusal("TENSOR_MALFORMED", f"tensor {tensor.name!r} is empty", found="0")
        features += tensor.batch * tensor.tokens * tensor.channels
    if features > limits.MAX_FEATURES:
        raise _too_large("a request's feature points", features, limits.MAX_FEATURES)
    uncoded = sum(len(raw.payload) for raw in begin.uncoded)
    if uncoded > limits.MAX_UNCODED_BYTES:
        raise _too_large("a request's uncoded bytes", uncoded, limits.MAX_UNCODED_BYTES)


def _too_large(what: str, found: int, allowed: int) -> Refusal:
    return Refusal(
        "TOO_LARGE",
        f"{what} are {found}; between 1 and {allowed} are allowed",
        found=str(found),
        allowed=str(allowed),
    )


def _out_of_order(found: str, expected: int) -> Refusal:
    return Refusal(
        "MESSAGE_OUT_OF_ORDER",
        f"{found} came where {expected} was expected",
        found=found,
        allowed=str(expected),
    )
