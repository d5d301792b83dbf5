"""One inference at the edge: inputs in, the request that all of it was sent and answered with out.

A long text of a causal model goes span by span, as a prompt does: the head runs on one span while
the one before it is coded and the tail runs on those before that. Everything else goes as one
feature, whose chunks are sent as they are coded; where the quality follows the link, a long one
goes in parts.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire_models import Features

from featurewire_client.edge import Edge
from featurewire_client.quality import PROBING_BYTES, QualityControl
from featurewire_client.rate_curve import Coded
from featurewire_client.route import Route
from featurewire_client.span_sender import SpanSender
from featurewire_client.stats import InferStats, of_request
from featurewire_client.transcript import Transcript, begin_of


class Inference:
    """One request; `control`, where there is one, chooses its quality in place of `snr_db`."""

    def __init__(
        self, edge: Edge, route: Route, snr_db: float, control: QualityControl | None = None
    ) -> None:
        self._edge = edge
        self._route = route
        self._control = control
        self._sender = SpanSender(edge, route, snr_db, control)
        self._snr_db = snr_db
        self._seconds = self._sender.seconds
        self._started = time.perf_counter()

    async def run(
        self, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str]
    ) -> tuple[dict[str, torch.Tensor], InferStats]:
        """The outputs by name, those that are wanted (none: all), and the account.

        Raises:
            ClientError, ModelError, CodecError: as `SplitClient.infer`.
        """
        if self._edge.takes_spans(inputs):
            request = await self._in_spans(inputs, outputs)
        else:
            request = await self._whole(inputs, outputs)
        total_s = time.perf_counter() - self._started
        stats = of_request(request, self._seconds, total_s, self._snr_db)
        return request.outputs(), stats

    async def _in_spans(
        self, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str]
    ) -> Transcript:
        others = {name: tensor for name, tensor in inputs.items() if name != "input_ids"}
        begin = begin_of(Features({}, uncoded=others), outputs)
        begin.spans = True
        cache, sender = self._edge.head.new_cache(), self._sender
        coded = await sender.sequence(inputs["input_ids"], cache, begin)
        sent = time.perf_counter()
        await self._route.finish(sender.request)
        self._snr_db = sender.snr_db
        if self._control is not None:
            sender.learn(self._control, coded, time.perf_counter() - sent)
        return sender.request

    async def _whole(
        self, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str]
    ) -> Transcript:
        seconds, pieces = self._seconds, tuple[int, ...]()
        features = await self._edge.features(inputs, seconds)
        begin = begin_of(features, outputs)
        if self._control is not None and self._edge.takes_parts(features):
            return await self._in_parts(features, begin, self._control)
        request = Transcript(begin)
        if self._control is not None:
            spent_s = time.perf_counter() - self._started
            self._snr_db = self._control.choose(seconds.points, spent_s)
            pieces = PROBING_BYTES
        async with aclosing(self._edge.chunks(features, self._snr_db, seconds, pieces)) as chunks:
            async for chunk in chunks:
                await self._route.send(request, chunk)
        await self._route.finish(request)
        if self._control is not None:
            coded = [Coded(self._snr_db, seconds.points, seconds.payload_bytes)]
            other_s = seconds.encode + self._server_s(request, "queue", "decode", "tail")
            self._control.learn(coded, request.kept_bytes, request.answer_bytes, other_s)
        return request

    async def _in_parts(
        self, features: Features, begin: pb.Begin, control: QualityControl
    ) -> Transcript:
        coded = await self._sender.feature(features, begin)
        request, self._snr_db = self._sender.request, self._sender.snr_db
        await self._route.finish(request)
        # all parts but one are coded and decoded while others are on their way
        beside_s = self._seconds.encode + self._server_s(request, "decode")
        other_s = beside_s / len(coded) + self._server_s(request, "queue", "tail")
        control.learn(coded, request.kept_bytes, request.answer_bytes, other_s)
        return request

    @staticmethod
    def _server_s(request: Transcript, *stages: str) -> float:
        return sum(request.server_ms(stage) for stage in stages) / 1000
