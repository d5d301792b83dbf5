"""One session: a client's messages in, the answers to them out.

The order of messages is in proto/README.md. A session owns no socket: it takes messages and gives
messages, and hands decoding and the tail to the workers.
"""

import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.coder import Coder
from featurewire.wire.metrics import WireMetrics
from featurewire.wire.status import Refusal
from featurewire.wire.tensors import output_chunks, unpack
from featurewire_models import Features, outputs_to_tensors

from featurewire_server.feature_buffer import FeatureBuffer
from featurewire_server.handshake import Terms
from featurewire_server.sampling import next_token

log = logging.getLogger("featurewire.server")

Result = TypeVar("Result")


class Workers(Protocol):
    """Where torch runs: never on the event loop's thread."""

    async def run(self, work: Callable[[], Result]) -> Result: ...


@dataclass(frozen=True)
class Answer:
    """What one request came to; seconds by stage."""

    outputs: dict[str, torch.Tensor]
    token: pb.Token | None
    queue_s: float
    decode_s: float
    tail_s: float


class Session:
    """One client's requests on agreed terms: between two of them, or amid one's chunks."""

    def __init__(
        self, terms: Terms, coder: Coder, workers: Workers, metrics: WireMetrics, peer: str
    ) -> None:
        self._terms = terms
        self._coder = coder
        self._workers = workers
        self._metrics = metrics
        self._peer = peer
        self._buffer: FeatureBuffer | None = None
        self._tensors: Sequence[pb.CodedTensor] = ()
        self._cache: Any = None
        self._position = 0
        self._sampling = pb.Sampling()
        self._tally: Counter[str] = Counter()

    async def receive(self, message: pb.InferRequest) -> AsyncIterator[pb.InferResponse]:
        """Takes one message and gives the answers it calls for.

        Raises:
            Refusal: the message is out of order, too large, or asks for what is not here.
            CodecError: a bitstream is damaged.
            ModelError: the tail cannot run on the feature.
        """
        kind = message.WhichOneof("message")
        if kind == "begin" and self._buffer is None:
            self._buffer = FeatureBuffer(message.begin, self._tensors)
            self._tensors = self._buffer.begin.tensors
        elif kind == "chunk" and self._buffer is not None:
            received_ns = time.monotonic_ns()
            buffer = self._buffer
            buffer.add(message.chunk)
            yield pb.InferResponse(
                ack=pb.Ack(
                    request=buffer.begin.request,
                    chunks=buffer.chunks,
                    bytes=buffer.received_bytes,
                    received_ns=received_ns,
                )
            )
            if message.chunk.last:
                self._buffer = None
                async for response in self._answer(buffer):
                    yield response
        else:
            raise out_of_order(kind, "begin" if self._buffer is None else "chunk")

    async def _answer(self, buffer: FeatureBuffer) -> AsyncIterator[pb.InferResponse]:
        coded = buffer.coded()
        submitted = time.perf_counter()
        answer = await self._workers.run(lambda: self._compute(buffer.begin, coded, submitted))
        request = buffer.begin.request
        output_bytes = 0
        for chunk in output_chunks(request, answer.outputs):
            output_bytes += chunk.ByteSize()
            yield pb.InferResponse(output=chunk)
        if answer.token is not None:
            output_bytes += answer.token.ByteSize()
            yield pb.InferResponse(token=answer.token)
        self._record(buffer, answer, output_bytes)
        yield pb.InferResponse(
            account=pb.Account(
                request=request,
                received_bytes=buffer.received_bytes,
                features=buffer.features,
                queue_seconds=answer.queue_s,
                decode_seconds=answer.decode_s,
                tail_seconds=answer.tail_s,
            )
        )

    def _compute(self, begin: pb.Begin, coded: dict[str, list[bytes]], submitted: float) -> Answer:
        """Decodes and runs the tail; on a worker's thread."""
        started = time.perf_counter()
        features = Features(
            tensors={
                tensor.name: self._decode(tensor, coded[tensor.name]) for tensor in begin.tensors
            },
            grids={
                tensor.name: grid for tensor in begin.tensors if (grid := _grid(tensor)) is not None
            },
            uncoded=unpack(begin.uncoded),
        )
        decoded = time.perf_counter()
        token = None
        outputs: dict[str, torch.Tensor] = {}
        try:
            if begin.HasField("sampling"):
                token = self._step(begin, features)
            else:
                every = outputs_to_tensors(self._terms.tail(features))
                outputs = _wanted(every, list(begin.outputs))
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            # masks and positions are the client's: what torch says of them is the client's to hear
            log.warning("the tail failed peer=%s", self._peer, exc_info=True)
            said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            message = f"the tail of {self._terms.model} cannot run on this feature: {said}"
            raise Refusal("INPUT_INVALID", message) from error
        ended = time.perf_counter()
        return Answer(outputs, token, started - submitted, decoded - started, ended - decoded)

    def _decode(self, tensor: pb.CodedTensor, samples: list[bytes]) -> torch.Tensor:
        shape, grid = (tensor.tokens, tensor.channels), _grid(tensor)
        decode = self._coder.decode
        return torch.stack([decode(tensor.name, data, shape, grid) for data in samples])

    def _step(self, begin: pb.Begin, features: Features) -> pb.Token:
        """One step of a generation: the tail with its cache, and the next token."""
        tensor = begin.tensors[0]
        if begin.sampling.restart or self._cache is None:
            self._cache = self._terms.tail.new_cache()
            self._position = 0
            self._sampling = begin.sampling
        if tensor.batch != 1:
            raise Refusal(
                "TOO_LARGE",
                f"a generation of {tensor.batch} sequences; 1 is allowed",
                found=str(tensor.batch),
                allowed="1",
            )
        outputs = self._terms.tail(features, cache=self._cache)
        self._position += tensor.tokens
        token = next_token(outputs.logits[0, -1], self._sampling, self._position)
        return pb.Token(request=begin.request, position=self._position, id=token)

    def _record(self, buffer: FeatureBuffer, answer: Answer, output_bytes: int) -> None:
        """Counts a feature; one request is one line of the log, a generation when it ends."""
        stages = {"queue": answer.queue_s, "decode": answer.decode_s, "tail": answer.tail_s}
        is_step = answer.token is not None
        begins = not is_step or buffer.begin.sampling.restart
        if begins:
            self.end_request()
        self._metrics.feature(
            new_request=begins,
            model=self._terms.model,
            task=self._terms.task,
            codec=self._terms.codec,
            direction="received",
            features=buffer.features,
            coded_bytes=buffer.received_bytes,
            output_bytes=output_bytes,
            stages_s=stages,
        )
        self._tally.update(stages)
        self._tally["features"] += buffer.features
        self._tally["received_bytes"] += buffer.received_bytes
        self._tally["output_bytes"] += output_bytes
        self._tally["tokens"] += is_step
        if not is_step:
            self.end_request()

    def end_request(self) -> None:
        """Writes the log's line of the request under way, if there is one."""
        sums, self._tally = self._tally, Counter()
        if not sums["features"]:
            return
        terms = self._terms
        log.info(
            "request peer=%s model=%s task=%s split=%s codec=%s features=%d received_bytes=%d"
            " bpfp=%.3f output_bytes=%d tokens=%d queue_ms=%.1f decode_ms=%.1f tail_ms=%.1f",
            self._peer,
            terms.model,
            terms.task,
            terms.split,
            terms.codec,
            sums["features"],
            sums["received_bytes"],
            8 * sums["received_bytes"] / sums["features"],
            sums["output_bytes"],
            sums["tokens"],
            *(1000 * sums[stage] for stage in ("queue", "decode", "tail")),
        )


def out_of_order(kind: str | None, expected: str) -> Refusal:
    """The refusal of a message that came at the wrong time."""
    message = f"a {kind or 'nameless'} message came where a {expected} was expected"
    return Refusal("MESSAGE_OUT_OF_ORDER", message, found=kind or "", allowed=expected)


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
