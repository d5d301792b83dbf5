"""Features through the tail: one that is decoded in, the answers to its request out."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.status import Refusal
from featurewire.wire.tensors import output_chunks
from featurewire_models import Features
from featurewire_models.stacked import cut_batch, join_tokens, stacking_key

from featurewire_server.accounts import Accounts, account_of
from featurewire_server.cache_budget import CacheBudget, Reservations
from featurewire_server.decoding import Decoded, Request
from featurewire_server.feature_buffer import FeatureBuffer
from featurewire_server.generation import Generation, Step, run_steps
from featurewire_server.handshake import Terms
from featurewire_server.metrics import ServerMetrics
from featurewire_server.one_shot import Outputs, run_together
from featurewire_server.refusals import server_full
from featurewire_server.scheduler import Ran, Scheduler
from featurewire_server.spanned_feature import SpannedFeature

log = logging.getLogger("featurewire.server")

Result = TypeVar("Result")

_PASS_SAMPLES = 16  # of a batch, so that no session waits for more than a pass of them


@dataclass(frozen=True)
class Shared:
    """What all sessions of a server share."""

    scheduler: Scheduler
    decoders: Executor
    metrics: ServerMetrics
    budget: CacheBudget
    batch_wait_s: float


class Answers:
    """Runs the tail for one session, one feature or span after the other.

    Args:
        peer: the client's address.
        reserved: memory of the session's requests.
        is_over: hears of every request that is, before its account is sent.
    """

    def __init__(
        self,
        terms: Terms,
        shared: Shared,
        peer: str,
        reserved: Reservations,
        is_over: Callable[[Request], None],
    ) -> None:
        self._terms = terms
        self._shared = shared
        self._peer = peer
        self._reserved = reserved
        self._is_over = is_over
        self._accounts = Accounts(terms, shared.metrics, peer)
        self._spans: list[Decoded] = []  # of a sequence, until they are a pass of the tail

    async def to(self, decoded: Decoded) -> AsyncIterator[pb.InferResponse]:
        """What a feature, or a span, is answered with.

        Raises:
            Refusal: the tail cannot run on the feature, or has no such output.
            ModelError: likewise.
        """
        if isinstance(decoded.request, Generation):
            decoded.request.check_open()
        self._accounts.follow(decoded.request)
        if isinstance(decoded.request, Generation) and decoded.request.given_up:
            return
        whole = self._join(decoded)
        if whole is None:
            return
        request = whole.request
        if isinstance(request, Generation):
            answers = self._next_token(whole, request)
        elif isinstance(request, SpannedFeature):
            answers = self._span_outputs(whole, request)
        else:
            answers = self._outputs(whole, request)
        async for answer in answers:
            yield answer

    async def _outputs(
        self, decoded: Decoded, request: FeatureBuffer
    ) -> AsyncIterator[pb.InferResponse]:
        outputs, queue_s, run_s = list[Outputs](), 0.0, 0.0
        for part in cut_batch(self._terms.tail, decoded.features, _PASS_SAMPLES):
            ran = await self._run(self._pass_of(part))
            queue_s, run_s = queue_s + ran.queue_s, run_s + ran.run_s
            outputs.append(_wanted(ran.result, list(request.begin.outputs)))
            if len(outputs) == 1:  # those of the other samples will be as large
                size = sum(tensor.nbytes for tensor in outputs[0].values())
                size = size * decoded.features.batch // part.batch
                self._reserved.reserve(request, "outputs", size)
        ran = replace(ran, queue_s=queue_s, run_s=run_s)  # of all passes together
        chunks = output_chunks(request.begin.request, outputs)
        for answer in self._with_account(chunks, decoded, ran):
            yield answer

    def _pass_of(self, features: Features) -> Awaitable[Ran[Outputs]]:
        tail, shared = self._terms.tail, self._shared
        key = stacking_key(tail, features)
        return shared.scheduler.join(
            key and (id(tail), key),
            lambda together: run_together(together, tail),
            features,
            shared.batch_wait_s if shared.metrics.open_sessions > 1 else 0.0,
            features.batch,
        )

    def _join(self, span: Decoded) -> Decoded | None:
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
        return Decoded(request, join_tokens(features), decode_s) if spans[1:] else span

    async def _span_outputs(
        self, decoded: Decoded, request: SpannedFeature
    ) -> AsyncIterator[pb.InferResponse]:
        tail, scheduler = self._terms.tail, self._shared.scheduler

        def run(spans: list[Features]) -> list[Outputs]:
            return [request.run(tail, span) for span in spans]

        # alone, as prompts do: a pass of a span is long enough to gain little from company
        ran = await self._run(scheduler.join(None, run, decoded.features))
        outputs = _wanted(ran.result, list(request.begin.outputs)) if ran.result else {}
        for answer in self._with_account(request.chunks_of(outputs), decoded, ran):
            yield answer

    async def _next_token(
        self, decoded: Decoded, generation: Generation
    ) -> AsyncIterator[pb.InferResponse]:
        step = Step(generation, decoded.features)
        terms, scheduler = self._terms, self._shared.scheduler
        # the prompt goes alone: what the tail cannot take is found before there is company
        key = None if generation.is_prefilling else ("step", id(terms.tail))
        ran = await self._run(scheduler.join(key, lambda steps: run_steps(steps, terms), step))
        token = generation.tell(ran, decoded.decode_s)
        self._accounts.record(decoded, ran, token.ByteSize() if token else 0)
        account = self._account(generation) if generation.is_complete else None
        if token is not None or account is not None:
            yield pb.InferResponse(token=token, account=account)

    def _with_account(
        self, chunks: Iterable[pb.OutputChunk], decoded: Decoded, ran: Ran[Outputs]
    ) -> Iterator[pb.InferResponse]:
        """The outputs of a pass; with the last one the account, where the request is over."""
        request, last, output_bytes = decoded.request, pb.InferResponse(), 0
        for chunk in chunks:
            output_bytes += chunk.ByteSize()
            if last.HasField("output"):
                yield last
            last = pb.InferResponse(output=chunk)
        self._accounts.record(decoded, ran, output_bytes)
        if not isinstance(request, SpannedFeature) or request.is_over:
            last.account.CopyFrom(self._account(request))
        if last.ByteSize():
            yield last

    def _account(self, request: Request) -> pb.Account:
        """What the client is told of a request that is over."""
        self._is_over(request)
        self._accounts.write(request)
        return account_of(request)

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

    def close(self) -> None:
        """Writes the log's line of a request that is not over."""
        self._accounts.close()


def _wanted(every: Outputs, names: list[str]) -> Outputs:
    """The outputs that the client asked for; all of them when it named none."""
    missing = [name for name in names if name not in every]
    if missing:
        allowed = ", ".join(every)
        message = f"the tail gives no output {missing[0]!r}; it gives {allowed}"
        raise Refusal("INPUT_INVALID", message, found=missing[0], allowed=allowed)
    return {name: every[name] for name in names or every}
