"""One session: a client's messages in, the answers to them out.

The order of messages is in proto/README.md. A session owns no socket. Three things go on at once,
each as far as bounded queues let it: `receive` takes messages, `decode` turns coded samples into
features, and `answers` runs the tail on them.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.coder import Coder, SampleDecoder
from featurewire.wire.status import Refusal
from featurewire.wire.tensors import output_chunks, unpack
from featurewire_models import Features
from featurewire_models.stacked import join_tokens, stacking_key
from featurewire_models.transfer import upload

from featurewire_server.accounts import Accounts, Request, account_of
from featurewire_server.cache_budget import CacheBudget
from featurewire_server.causal_request import CausalRequest
from featurewire_server.feature_buffer import FeatureBuffer, check_begin
from featurewire_server.generation import Generation, Step, run_steps
from featurewire_server.handshake import Terms
from featurewire_server.metrics import ServerMetrics
from featurewire_server.one_shot import run_together
from featurewire_server.refusals import out_of_order, server_full
from featurewire_server.scheduler import Ran, Scheduler
from featurewire_server.spanned_feature import SpannedFeature

log = logging.getLogger("featurewire.server")

Result = TypeVar("Result")

_CHUNKS_WAITING = 8  # 1 MiB of them
_LATE_NS = 1_000_000  # of a message: the one behind it may have waited
_FEATURES_WAITING = 2
_INLINE_FEATURES = 8192  # fewer are decoded sooner than another thread takes over


@dataclass(frozen=True)
class Shared:
    """What all sessions of a server share."""

    scheduler: Scheduler
    decoders: Executor
    metrics: ServerMetrics
    budget: CacheBudget
    batch_wait_s: float


@dataclass
class _Coded:
    """Bytes of one sample, or of one bitstream of a sequence."""

    request: Request
    name: str
    shape: tuple[int, int]
    grid: tuple[int, int] | None
    payload: bytes
    starts: bool = True
    ends_request: bool = True


@dataclass
class _Decoded:
    """A feature, or a span of a sequence, ready for the tail."""

    request: Request
    features: Features
    decode_s: float


@dataclass
class _Decoding:
    """The samples of the feature that is under way."""

    decoders: dict[str, list[SampleDecoder]] = field(default_factory=dict)
    seconds: float = 0.0


class Session:
    """One client's requests on agreed terms: between two of them, or amid one."""

    def __init__(
        self,
        terms: Terms,
        coder: Coder,
        shared: Shared,
        peer: str,
    ) -> None:
        self._terms = terms
        self._coder = coder
        self._shared = shared
        self._peer = peer
        self._accounts = Accounts(terms, shared.metrics, peer)
        self._request: Request | None = None
        self._caches: list[CausalRequest] = []  # what the budget is reserved for
        self._tensors: Sequence[pb.CodedTensor] = ()
        self._bitstream: list[bytes] = []
        self._coded: asyncio.Queue[_Coded | None] = asyncio.Queue(_CHUNKS_WAITING)
        self._decoded: asyncio.Queue[_Decoded | None] = asyncio.Queue(_FEATURES_WAITING)
        self._spans: list[_Decoded] = []  # of a sequence, until they are a pass of the tail
        self._late = False
        self._unanswered = 0  # features, and bitstreams of sequences
        self._answered = asyncio.Event()

    @property
    def is_busy(self) -> bool:
        """Whether something that came has not been answered yet."""
        return self._unanswered > 0

    @property
    def at_rest(self) -> bool:
        """Whether no request is under way."""
        return not self.is_busy and self._request is None

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
        kind = message.WhichOneof("message")
        amid_feature = isinstance(self._request, FeatureBuffer | SpannedFeature)
        if kind == "begin" and not amid_feature:
            self._begin(message.begin)
            return None
        if kind != "chunk" or self._request is None:
            expected = "chunk" if amid_feature else "begin"
            raise out_of_order(f"a {kind or 'nameless'} message", f"a {expected}")
        received_ns, late = time.monotonic_ns(), self._late
        request, payload = self._request, message.chunk.payload  # a copy at every read
        answered = False
        if isinstance(request, CausalRequest):
            tokens = request.add(message.chunk, len(payload))
            answered = bool(tokens) and request.is_answered
            await self._collect(request, tokens, payload)
            if isinstance(request, SpannedFeature) and request.is_complete:
                self._request = None
        else:
            first = request.samples
            tensor = request.add(message.chunk, len(payload))
            shape = (tensor.tokens, tensor.channels)
            starts, last = request.samples > first, message.chunk.last
            coded = _Coded(request, tensor.name, shape, _grid(tensor), payload, starts, last)
            self._unanswered += last
            if last:
                self._request = None
            await self._coded.put(coded)
        self._late = time.monotonic_ns() - received_ns > _LATE_NS
        if answered:
            return None
        ack = pb.Ack(
            request=message.chunk.request,
            chunks=request.chunks,
            bytes=request.received_bytes,
            received_ns=received_ns,
            late=late,
        )
        return pb.InferResponse(ack=ack)

    async def end(self) -> None:
        """No message follows: `answers` ends after those for what has come."""
        await self._coded.put(None)

    def _begin(self, begin: pb.Begin) -> None:
        received_bytes = begin.ByteSize()
        if not begin.tensors:
            begin.tensors.extend(self._tensors)
        check_begin(begin)
        self._tensors = begin.tensors
        if isinstance(self._request, CausalRequest):  # a generation that is given up
            self._release(self._request)
        if not begin.HasField("generation") and not begin.spans:
            self._request = FeatureBuffer(begin, received_bytes)
            return
        self._bitstream = []
        kind = Generation if begin.HasField("generation") else SpannedFeature
        request = kind(begin, self._terms, received_bytes)
        self._shared.budget.reserve(request.cache_bytes)
        self._caches.append(request)
        self._request = request

    async def _collect(self, request: Request, tokens: int, payload: bytes) -> None:
        """Keeps pieces of a bitstream until it is complete."""
        self._bitstream.append(payload)
        if tokens:
            tensor = request.begin.tensors[0]
            whole = b"".join(self._bitstream)
            self._bitstream = []
            shape = (tokens, tensor.channels)
            self._unanswered += 1
            await self._coded.put(_Coded(request, tensor.name, shape, None, whole))

    async def decode(self) -> None:
        """Decodes what comes until the end.

        Raises:
            CodecError: a bitstream is damaged.
            Refusal: a tensor is malformed.
        """
        decoding = _Decoding()
        while (coded := await self._coded.get()) is not None:
            features_of_it = coded.shape[0] * coded.shape[1]
            inline = features_of_it <= _INLINE_FEATURES and self._coder.codec != "dt-ufc"

            def work(coded: _Coded = coded, decoding: _Decoding = decoding) -> Features | None:
                return self._decode(coded, decoding)

            features = work() if inline else await self._off_loop(work)
            if features is not None:
                await self._decoded.put(_Decoded(coded.request, features, decoding.seconds))
                decoding = _Decoding()
        await self._decoded.put(None)

    async def _off_loop(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._shared.decoders, work)

    def _decode(self, coded: _Coded, decoding: _Decoding) -> Features | None:
        """Feeds bytes to their sample's decoder; the request's features with the last of them.

        They are on the tail's device then, while that may still compute what came before.
        """
        started = time.perf_counter()
        samples = decoding.decoders.setdefault(coded.name, [])
        if coded.starts:
            samples.append(self._coder.decoder(coded.name, coded.shape, coded.grid))
        samples[-1].feed(coded.payload)
        features = None
        if coded.ends_request:
            tensors = {
                name: upload(
                    torch.stack([sample.finish() for sample in samples]), self._terms.tail.device
                )
                for name, samples in decoding.decoders.items()
            }
            begin = coded.request.begin
            grids = {tensor.name: grid for tensor in begin.tensors if (grid := _grid(tensor))}
            features = Features(tensors, grids, unpack(begin.uncoded))
        decoding.seconds += time.perf_counter() - started
        return features

    async def answers(self) -> AsyncIterator[pb.InferResponse]:
        """The answers to everything that is decoded, until the end.

        Raises:
            Refusal: the tail cannot run on the feature, or has no such output.
            ModelError: likewise.
        """
        while (decoded := await self._decoded.get()) is not None:
            self._accounts.follow(decoded.request)
            if (whole := self._join(decoded)) is not None:
                async for response in self._answer(whole):
                    yield response
            self._unanswered -= 1
            self._answered.set()

    def _answer(self, decoded: _Decoded) -> AsyncIterator[pb.InferResponse]:
        request = decoded.request
        if isinstance(request, Generation):
            return self._next_token(decoded, request)
        if isinstance(request, SpannedFeature):
            return self._span_outputs(decoded, request)
        return self._outputs(decoded, request)

    async def _outputs(
        self, decoded: _Decoded, request: FeatureBuffer
    ) -> AsyncIterator[pb.InferResponse]:
        tail, shared = self._terms.tail, self._shared
        key = stacking_key(tail, decoded.features)
        ran = await self._run(
            shared.scheduler.join(
                key and (id(tail), key),
                lambda features: run_together(features, tail),
                decoded.features,
                shared.batch_wait_s if shared.metrics.open_sessions > 1 else 0.0,
            )
        )
        shared.metrics.pass_requests.labels(self._terms.model).observe(ran.shared)
        outputs = _wanted(ran.result, list(request.begin.outputs))
        output_bytes = 0
        for chunk in output_chunks(request.begin.request, outputs):
            output_bytes += chunk.ByteSize()
            yield pb.InferResponse(output=chunk)
        sizes = request.features, request.received_bytes
        self._accounts.record(request, *sizes, decoded.decode_s, ran, output_bytes)
        yield pb.InferResponse(account=account_of(request))
        self._accounts.write(request)

    def _join(self, span: _Decoded) -> _Decoded | None:
        """The span, with those before it that the tail takes with it; None: with more of them."""
        request = span.request
        if isinstance(request, FeatureBuffer):
            return span
        spans = [one for one in self._spans if one.request is request] + [span]
        features = [one.features for one in spans]
        tokens = sum(next(iter(one.tensors.values())).shape[1] for one in features)
        if not request.has_pass(tokens):
            self._spans = spans
            return None
        self._spans = []
        decode_s = sum(one.decode_s for one in spans)
        return _Decoded(request, join_tokens(features), decode_s) if spans[1:] else span

    async def _span_outputs(
        self, decoded: _Decoded, request: SpannedFeature
    ) -> AsyncIterator[pb.InferResponse]:
        tail, shared = self._terms.tail, self._shared
        # alone, as prompts do: a pass of a span is long enough to gain little from company
        ran = await self._run(
            shared.scheduler.join(
                None, lambda spans: [request.run(tail, span) for span in spans], decoded.features
            )
        )
        shared.metrics.pass_requests.labels(self._terms.model).observe(ran.shared)
        outputs = _wanted(ran.result, list(request.begin.outputs)) if ran.result else {}
        output_bytes = 0
        for chunk in request.chunks_of(outputs):
            output_bytes += chunk.ByteSize()
            yield pb.InferResponse(output=chunk)
        points = next(iter(decoded.features.tensors.values())).numel()
        fresh = request.received_bytes - request.tally["received_bytes"]
        self._accounts.record(request, points, fresh, decoded.decode_s, ran, output_bytes)
        if request.is_over:
            self._release(request)
            yield pb.InferResponse(account=account_of(request))
            self._accounts.write(request)

    async def _next_token(
        self, decoded: _Decoded, generation: Generation
    ) -> AsyncIterator[pb.InferResponse]:
        generation.check_open()
        step = Step(generation, decoded.features)
        tensor = next(iter(decoded.features.tensors.values()))
        terms, scheduler = self._terms, self._shared.scheduler
        # the prompt goes alone: what the tail cannot take is found before there is company
        key = None if generation.is_prefilling else ("step", id(terms.tail))
        ran = await self._run(scheduler.join(key, lambda steps: run_steps(steps, terms), step))
        self._shared.metrics.pass_requests.labels(terms.model).observe(ran.shared)
        drawn, untold = ran.result, generation.untold
        untold.update({"queue": ran.queue_s, "decode": decoded.decode_s, "tail": ran.run_s})
        token = pb.Token(
            request=generation.begin.request,
            position=drawn.position,
            id=drawn.token or 0,
            finish=drawn.finish,
            queue_us=round(1e6 * untold["queue"]),
            decode_us=round(1e6 * untold["decode"]),
            tail_us=round(1e6 * untold["tail"]),
        )
        fresh = generation.received_bytes - generation.tally["received_bytes"]
        sent_bytes = token.ByteSize() if drawn.token is not None else 0
        self._accounts.record(generation, tensor.numel(), fresh, decoded.decode_s, ran, sent_bytes)
        if drawn.token is not None:
            generation.tally["tokens"] += 1
            untold.clear()
            yield pb.InferResponse(token=token)
        if drawn.finish:
            yield pb.InferResponse(account=account_of(generation))
            self._accounts.write(generation)
            self._release(generation)

    async def _run(self, job: Awaitable[Ran[Result]]) -> Ran[Result]:
        """What a job gives; what torch says of masks and positions is the client's to hear."""
        try:
            return await job
        except torch.OutOfMemoryError as error:
            log.warning("the tail has no memory peer=%s", self._peer, exc_info=True)
            message = f"the device of {self._terms.model} has no memory for this feature now"
            raise server_full(message) from error
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            log.warning("the tail failed peer=%s", self._peer, exc_info=True)
            said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            message = f"the tail of {self._terms.model} cannot run on this feature: {said}"
            raise Refusal("INPUT_INVALID", message) from error

    def _release(self, request: CausalRequest) -> None:
        """Gives back what a request had reserved, finished or given up."""
        if request in self._caches:
            self._caches.remove(request)
            self._shared.budget.release(request.cache_bytes)
        if self._request is request:  # the client may have begun another one
            self._request = None

    def close(self) -> None:
        """Frees what the session holds, however it ended."""
        for request in list(self._caches):
            self._release(request)
        self._accounts.close()


def _grid(tensor: pb.CodedTensor) -> tuple[int, int] | None:
    """The tensor's rows and columns, where it has a grid."""
    grid = (tensor.grid_rows, tensor.grid_columns)
    return grid if all(grid) else None


def _wanted(every: dict[str, torch.Tensor], names: list[str]) -> dict[str, torch.Tensor]:
    """The outputs that the client asked for; all of them when it named none."""
    missing = [name for name in names if name not in every]
    if missing:
        allowed = ", ".join(every)
        message = f"the tail gives no output {missing[0]!r}; it gives {allowed}"
        raise Refusal("INPUT_INVALID", message, found=missing[0], allowed=allowed)
    return {name: every[name] for name in names or every}
