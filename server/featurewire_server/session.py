"""One session: a client's messages in, the answers to them out.

The order of messages is in proto/README.md. A session owns no socket. Three things go on at once,
each as far as bounded queues let it: `receive` takes messages, `decode` turns coded samples into
features, and `answers` runs the tail on them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.coder import Coder
from featurewire.wire.runtime import coding_threads

from featurewire_server.answers import Answers, Shared
from featurewire_server.cache_budget import Reservations
from featurewire_server.causal_request import CausalRequest
from featurewire_server.decoding import Coded, Decoded, Decoding, Request, grid_of, part_grid
from featurewire_server.feature_buffer import FeatureBuffer, check_begin
from featurewire_server.generation import Generation
from featurewire_server.handshake import Terms
from featurewire_server.refusals import out_of_order
from featurewire_server.spanned_feature import SpannedFeature

_CHUNKS_WAITING = 8  # or bitstreams of spans and parts
_LATE_NS = 1_000_000  # that a message took: one that comes soon after may have waited for it
_SOON_NS = 100_000_000
_FEATURES_WAITING = 2


class Session:
    """One client's requests on agreed terms: between two of them, or amid one."""

    def __init__(self, terms: Terms, coder: Coder, shared: Shared, peer: str) -> None:
        self._terms = terms
        self._request: Request | None = None  # the last that was begun, until it is over
        self._reserved = Reservations(shared.budget)
        self._decoding = Decoding(coder, terms.tail.device, shared.decoders)
        self._answers = Answers(terms, shared, peer, self._reserved, self._over)
        self._tensors: Sequence[pb.CodedTensor] = ()
        self._bitstream: list[bytes] = []
        self._coded: asyncio.Queue[Coded | None] = asyncio.Queue(_CHUNKS_WAITING)
        self._decoded: asyncio.Queue[asyncio.Future[Decoded | None] | None]
        self._decoded = asyncio.Queue(_FEATURES_WAITING)
        self._decoders = asyncio.Semaphore(coding_threads())
        self._taken_ns = self._took_ns = 0  # when the last message was dealt with, and how long
        self._unanswered = 0  # features, and bitstreams of sequences
        self._answered = asyncio.Event()

    @property
    def is_busy(self) -> bool:
        """Whether something that came has not been answered yet."""
        return self._unanswered > 0

    @property
    def at_rest(self) -> bool:
        """Whether no request is under way."""
        return not self.is_busy and self._expects_begin

    @property
    def _expects_begin(self) -> bool:
        """Whether no request takes a further chunk."""
        return self._request is None or self._request.is_complete

    async def rest(self) -> None:
        """Waits until no request is under way."""
        while not self.at_rest:
            self._answered.clear()
            await self._answered.wait()

    async def receive(self, message: pb.InferRequest) -> pb.InferResponse | None:
        """Takes one message and gives the Ack that it calls for, once there is room for more.

        Raises:
            Refusal: the message is out of order, too large, or asks for what is not here.
            ModelError: a sequence for a model that is not causal.
        """
        received_ns = time.monotonic_ns()
        late = self._took_ns > _LATE_NS and received_ns - self._taken_ns < _SOON_NS
        request = await self._deal_with(message)
        self._taken_ns = time.monotonic_ns()
        self._took_ns = self._taken_ns - received_ns
        if request is None:
            return None
        ack = pb.Ack(
            request=message.chunk.request,
            chunks=request.chunks,
            bytes=request.received_bytes,
            received_ns=received_ns,
            late=late,
        )
        return pb.InferResponse(ack=ack)

    async def _deal_with(self, message: pb.InferRequest) -> Request | None:
        """The request of a chunk that an Ack is to answer."""
        kind, begins = message.WhichOneof("message"), message.HasField("begin")
        may_begin = self._expects_begin or isinstance(self._request, Generation)
        fits = may_begin if begins else kind is not None and not self._expects_begin
        if kind == "handshake" or not fits:
            found = kind if kind == "handshake" or not begins else "begin"
            expected = "begin" if may_begin else "chunk"
            raise out_of_order(f"a {found or 'nameless'} message", f"a {expected}")
        if begins:
            self._begin(message.begin)
        request = self._request
        if kind is None or request is None or await self._take(message.chunk, request):
            return None
        return request

    def _begin(self, begin: pb.Begin) -> None:
        received_bytes = begin.ByteSize()
        if not begin.tensors:
            begin.tensors.extend(self._tensors)
        is_causal = begin.HasField("generation") or begin.spans
        is_bounded = self._terms.tail.of_tokens and not is_causal
        check_begin(begin, self._terms.context if is_bounded else 0)
        self._tensors = begin.tensors
        if isinstance(self._request, Generation) and not self._request.has_come:
            self._reserved.release(self._request)
            self._request.given_up = True
        self._bitstream = []
        if not is_causal:
            feature = FeatureBuffer(begin, received_bytes)
            self._reserved.reserve(feature, "feature", feature.feature_bytes)
            self._request = feature
            return
        kind = Generation if begin.HasField("generation") else SpannedFeature
        request = kind(begin, self._terms, received_bytes)
        self._reserved.reserve(request, "cache", request.cache_bytes)
        self._request = request

    async def _take(self, chunk: pb.Chunk, request: Request) -> bool:
        """Has a chunk decoded; whether a token answers it, in place of an Ack."""
        payload = chunk.payload  # a copy at every read
        if isinstance(request, CausalRequest):
            tokens = request.add(chunk, len(payload))
            whole = self._collect(payload, tokens)
            if not whole:
                return False
            answered = request.is_answered
            tensor = request.begin.tensors[0]
            shape = (tokens, tensor.channels)
            coded = Coded(request, tensor.name, shape, None, whole, is_whole=True)
            await self._decode_next(coded)
            return answered
        first = request.samples
        tensor = request.add(chunk, len(payload))
        self._reserved.reserve(request, "coded feature", len(payload))
        name, channels, last = tensor.name, tensor.channels, chunk.last
        if not request.begin.parts:
            shape, starts = (tensor.tokens, channels), request.samples > first
            coded = Coded(request, name, shape, grid_of(tensor), payload, starts, last)
            await self._decode_next(coded)
        elif whole := self._collect(payload, chunk.tokens):
            shape, grid = (chunk.tokens, channels), part_grid(tensor, request.part)
            coded = Coded(request, name, shape, grid, whole, completes=last, is_whole=True)
            await self._decode_next(coded)
        return False

    def _collect(self, payload: bytes, tokens: int) -> bytes:
        """A whole bitstream, once its last piece has come, which says its tokens; else b""."""
        self._bitstream.append(payload)
        if not tokens:
            return b""
        whole, self._bitstream = b"".join(self._bitstream), []
        return whole

    async def _decode_next(self, coded: Coded) -> None:
        self._unanswered += coded.completes
        await self._coded.put(coded)

    async def end(self) -> None:
        """No message follows: `answers` ends after those for what has come."""
        await self._coded.put(None)

    async def decode(self) -> None:
        """Decodes what comes until the end.

        Raises:
            CodecError: a bitstream is damaged.
            Refusal: a tensor is malformed.
        """
        while (coded := await self._coded.get()) is not None:
            await self._decoders.acquire()  # no more threads at once than there are
            # no name for it here: an idle session would keep its last feature
            if coded.completes:
                await self._decoded.put(self._begin_decoding(coded))
            else:
                await self._begin_decoding(coded)
        await self._decoded.put(None)

    def _begin_decoding(self, coded: Coded) -> "asyncio.Future[Decoded | None]":
        decoding = self._decoding.begin(coded)
        decoding.add_done_callback(self._decoding_ended)
        return decoding

    def _decoding_ended(self, decoding: "asyncio.Future[Decoded | None]") -> None:
        self._decoders.release()
        if not decoding.cancelled():
            decoding.exception()  # else asyncio tells of one that nobody waits for any more

    async def answers(self) -> AsyncIterator[pb.InferResponse]:
        """The answers to everything that is decoded, until the end.

        Raises:
            CodecError: a bitstream is damaged.
            Refusal: the tail cannot run on the feature, or has no such output.
            ModelError: likewise.
        """
        while (decoding := await self._decoded.get()) is not None:
            async for response in self._answers.to(await _feature_of(decoding)):
                yield response
            del decoding  # an idle session would keep its last feature
            self._unanswered -= 1
            self._answered.set()

    def _over(self, request: Request) -> None:
        """Frees what a request needs no more."""
        self._reserved.release(request)
        if self._request is request:  # the client may have begun another one
            self._request = None

    def close(self) -> None:
        """Frees what the session holds, however it ended."""
        while not self._decoded.empty():
            if (decoding := self._decoded.get_nowait()) is not None:
                decoding.cancel()
        self._reserved.close()
        self._answers.close()


async def _feature_of(decoding: "asyncio.Future[Decoded | None]") -> Decoded:
    decoded = await decoding
    assert decoded is not None  # its last bytes are in
    return decoded
