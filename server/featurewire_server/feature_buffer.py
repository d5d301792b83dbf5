"""A feature on its way in: Begin and Chunk messages in, pieces of coded samples out.

Every size is checked against a limit before anything of that size is kept.
"""

from collections import Counter
from dataclasses import dataclass, field

from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire import limits
from featurewire.wire.coder import max_coded_bytes
from featurewire.wire.status import Refusal

from featurewire_server.refusals import check_chunk, out_of_order, too_large

DECODER_BYTES = 1024  # that one of a sample takes, at most


@dataclass(eq=False)
class FeatureBuffer:
    """Follows one request's chunks.

    Attributes:
        begin: what the client announced, tensors included.
        received_bytes: serialised size of the messages so far, Begin included.
        samples: how many have begun to come, over all tensors.
        part: of a feature in parts, the last one's tokens in its sample.
        is_complete: it takes no further chunk.
        feature_bytes: what its decoded feature takes, as float32, with a decoder of each sample.
        tally: what the tail's pass has come to: bytes, features, seconds of each stage.
    """

    begin: pb.Begin
    received_bytes: int
    chunks: int = 0
    samples: int = 0
    part: range = range(0)
    is_complete: bool = False
    tally: Counter[str] = field(default_factory=Counter)
    _sample_bytes: int = 0
    _missing: int = 0  # tokens of the sample, where it comes in parts

    @property
    def feature_bytes(self) -> int:
        return sum(
            t.batch * (4 * t.tokens * t.channels + DECODER_BYTES) for t in self.begin.tensors
        )

    def add(self, chunk: pb.Chunk, payload_bytes: int) -> pb.CodedTensor:
        """Counts one chunk in: the tensor that it belongs to; its sample is the last of `samples`.

        Raises:
            Refusal: it is out of order, too large, one more than announced, or says that it is the
                last where samples are missing.
        """
        check_chunk(chunk, self.begin.request, payload_bytes)
        if chunk.tensor >= len(self.begin.tensors):
            raise out_of_order(f"tensor {chunk.tensor}", str(len(self.begin.tensors)))
        tensor = self.begin.tensors[chunk.tensor]
        if chunk.sample >= tensor.batch:
            raise out_of_order(f"sample {chunk.sample}", str(tensor.batch))
        index = sum(t.batch for t in self.begin.tensors[: chunk.tensor]) + chunk.sample
        if index == self.samples and not self._missing:
            self.samples += 1
            self._sample_bytes = 0
            self._missing = tensor.tokens if self.begin.parts else 0
        elif index != self.samples - 1:
            expected = self.samples - 1 if self._missing else self.samples
            raise out_of_order(f"sample {index}", str(expected))
        if self.begin.parts:
            self._take_part(chunk, tensor.tokens)
        self._sample_bytes += payload_bytes
        allowed = max_coded_bytes(tensor.tokens * tensor.channels)
        if self._sample_bytes > allowed:
            raise too_large("a coded sample's bytes", self._sample_bytes, allowed)
        announced = sum(t.batch for t in self.begin.tensors)
        if chunk.last and self._missing:
            raise out_of_order("the last chunk", f"{self._missing} tokens of its sample")
        if chunk.last and self.samples != announced:
            raise out_of_order(f"the last chunk of {self.samples} samples", str(announced))
        self.received_bytes += chunk.ByteSize()
        self.chunks += 1
        self.is_complete = chunk.last
        return tensor

    def _take_part(self, chunk: pb.Chunk, tokens: int) -> None:
        if not chunk.payload:
            raise Refusal("BITSTREAM_INVALID", "a chunk of a part is empty")
        if not self._missing:
            raise out_of_order("a chunk behind a sample's last part", "the next sample")
        if chunk.tokens > self._missing:
            raise too_large("a part's tokens", chunk.tokens, self._missing)
        start = tokens - self._missing
        self.part = range(start, start + chunk.tokens)
        self._missing -= chunk.tokens


def check_begin(begin: pb.Begin, most_tokens: int = 0) -> None:
    """Holds what a Begin announces against the limits.

    Args:
        most_tokens: of one tensor; 0: any number.

    Raises:
        Refusal: it is empty, malformed or too large.
    """
    if not 1 <= len(begin.tensors) <= limits.MAX_TENSORS:
        raise too_large("a feature's tensors", len(begin.tensors), limits.MAX_TENSORS)
    if len({tensor.name for tensor in begin.tensors}) != len(begin.tensors):
        raise Refusal("TENSOR_MALFORMED", "two tensors of one feature have the same name")
    features = 0
    for tensor in begin.tensors:
        if not (tensor.batch and tensor.tokens and tensor.channels):
            raise Refusal("TENSOR_MALFORMED", f"tensor {tensor.name!r} is empty", found="0")
        if most_tokens and tensor.tokens > most_tokens:
            raise too_large("a tensor's tokens", tensor.tokens, most_tokens)
        features += tensor.batch * tensor.tokens * tensor.channels
    if features > limits.MAX_FEATURES:
        raise too_large("a request's feature points", features, limits.MAX_FEATURES)
    uncoded = sum(len(raw.payload) for raw in begin.uncoded)
    if uncoded > limits.MAX_UNCODED_BYTES:
        raise too_large("a request's uncoded bytes", uncoded, limits.MAX_UNCODED_BYTES)
