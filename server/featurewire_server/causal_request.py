"""A sequence that comes span by span: chunks in, whole bitstreams out, the tail's cache between."""

from collections import Counter

from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.coder import max_coded_bytes
from featurewire.wire.status import Refusal

from featurewire_server.handshake import Terms
from featurewire_server.refusals import check_chunk, out_of_order, too_large


class CausalRequest:
    """How far one sequence has come, and the cache of the tail's passes over it.

    Attributes:
        begin: what the client announced, its tensor included.
        cache: what the tail remembers of the passes so far.
        received_bytes: serialised size of its messages so far, Begin included.
        chunks: how many have come.
        cache_bytes: what its cache may grow to, and outputs that wait.
        tally: what the tail's passes have come to so far: bytes, features, seconds of each stage.
    """

    def __init__(
        self, what: str, begin: pb.Begin, terms: Terms, received_bytes: int, beside: int = 0
    ) -> None:
        """`what` it is, for refusals; `received_bytes`: of the Begin as it came.

        `beside`: how many uncoded tensors it may have.

        Raises:
            Refusal: not one sequence of one tensor, or more tokens than the context.
            ModelError: the model is not causal.
        """
        if len(begin.tensors) != 1 or begin.tensors[0].batch != 1 or len(begin.uncoded) > beside:
            batch = begin.tensors[0].batch if begin.tensors else 0
            found = f"{len(begin.tensors)} x {batch}"
            message = (
                f"{what} of {found} tensors and samples, with {len(begin.uncoded)} tensors"
                f" beside them; 1 x 1 with {beside or 'none'} is allowed"
            )
            raise Refusal("TOO_LARGE", message, found=found, allowed="1 x 1")
        self.cache, tensor = terms.tail.new_cache(), begin.tensors[0]
        if tensor.tokens > terms.context:
            raise too_large(f"the tokens of {what}", tensor.tokens, terms.context)
        self.begin = begin
        self.received_bytes = received_bytes
        self.chunks = 0
        self.cache_bytes = terms.tail.cache_bytes(tensor.tokens)
        self.tally: Counter[str] = Counter()
        self._channels = tensor.channels
        self._announced = tensor.tokens
        self._context = terms.context
        self._pass_tokens = terms.tail.pass_tokens
        self._taken = 0  # tokens whose bitstreams have come
        self._bitstream_bytes = 0

    @property
    def is_answered(self) -> bool:
        """Whether the bitstream that came last is answered by a token, in place of an Ack."""
        return False

    @property
    def is_complete(self) -> bool:
        """Whether it takes no further chunk."""
        return self._taken >= self._announced

    def add(self, chunk: pb.Chunk, payload_bytes: int) -> int:
        """Counts one chunk in: the tokens of the bitstream that it completes, or 0.

        Raises:
            Refusal: it is out of order or too large.
        """
        check_chunk(chunk, self.begin.request, payload_bytes)
        if chunk.tensor or chunk.sample:
            raise out_of_order(f"sample {chunk.sample} of tensor {chunk.tensor}", "the only one")
        if not payload_bytes:
            raise Refusal("BITSTREAM_INVALID", "a chunk of a sequence is empty")
        allowed = max(self._announced - self._taken, 1)
        if chunk.tokens > allowed or self._taken + chunk.tokens > self._context:
            raise too_large("a chunk's tokens", chunk.tokens, allowed)
        self._bitstream_bytes += payload_bytes
        most = max_coded_bytes((chunk.tokens or allowed) * self._channels)
        if self._bitstream_bytes > most:
            raise too_large("a bitstream's bytes", self._bitstream_bytes, most)
        if chunk.tokens:
            self._taken += chunk.tokens
            self._bitstream_bytes = 0
        self.received_bytes += chunk.ByteSize()
        self.chunks += 1
        return chunk.tokens

    def has_pass(self, tokens: int) -> bool:
        """Whether so many decoded tokens are what the tail takes next: of a prompt, a pass full."""
        left = self._announced - self.cache.length
        return tokens >= min(self._pass_tokens, left)
