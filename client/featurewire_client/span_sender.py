"""The way of what is coded in spans to the server, each with a quality of its own."""

import time
from collections.abc import Sequence
from contextlib import aclosing

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire_models import Features

from featurewire_client.chunks import cut
from featurewire_client.edge import Edge
from featurewire_client.head_pass import Seconds
from featurewire_client.quality import PROBING_BYTES, QualityControl
from featurewire_client.rate_curve import Coded
from featurewire_client.route import Route
from featurewire_client.span import Span
from featurewire_client.transcript import Transcript


class SpanSender:
    """Sends one request's spans while the next ones are coded and the head goes on.

    Attributes:
        seconds: what the stages here have taken.
        snr_db: the quality of the last span, in dB.
    """

    def __init__(
        self, edge: Edge, route: Route, snr_db: float, control: QualityControl | None = None
    ) -> None:
        """`control`, where there is one, chooses the quality span by span in place of `snr_db`."""
        self.seconds = Seconds()
        self.snr_db = snr_db
        self._edge = edge
        self._route = route
        self._control = control
        self._request: Transcript | None = None
        self._sent_payload_bytes = 0
        self._started = time.perf_counter()

    @property
    def request(self) -> Transcript:
        """What was sent and answered; there is one from the first span on."""
        assert self._request is not None
        return self._request

    async def sequence(self, ids: torch.Tensor, cache: object, begin: pb.Begin) -> list[Coded]:
        """Sends tokens `[1, tokens]`, announced by `begin` once their tensor is known.

        Raises:
            ClientError, ModelError, CodecError: as `SplitClient.infer`.
        """
        coded, quality = [], self._quality if self._control else self.snr_db
        async with aclosing(self._edge.spans(ids, cache, quality, self.seconds)) as spans:
            async for span in spans:
                if self._request is None:
                    begin.tensors.add(
                        name=span.name, batch=1, tokens=ids.shape[1], channels=span.channels
                    )
                    self._request = Transcript(begin)
                coded.append(await self.send(span))
        return coded

    async def feature(self, features: Features, begin: pb.Begin) -> list[Coded]:
        """Sends a long feature part by part, announced by `begin`.

        Raises:
            ClientError, CodecError: as `SplitClient.infer`.
        """
        begin.parts, coded = True, []
        self._request = Transcript(begin)
        async with aclosing(self._edge.parts(features, self._quality, self.seconds)) as parts:
            async for part in parts:
                coded.append(await self.send(part))
        return coded

    async def send(self, span: Span) -> Coded:
        """Sends one more span of the request; what it came to."""
        for chunk in cut(span.chunks, PROBING_BYTES if self._control else ()):
            await self._route.send(self.request, chunk)
            self._sent_payload_bytes += len(chunk.payload)
        return Coded(span.snr_db, span.points, span.payload_bytes)

    def learn(self, control: QualityControl, coded: Sequence[Coded], waited_s: float) -> None:
        """Tells what the sequence came to; `waited_s`: from its last chunk to the answer."""
        size = self.request.answer_bytes
        other_s = control.beside_wire_s(waited_s, size)
        control.learn(coded, self.request.kept_bytes, size, other_s)

    async def _quality(self, points: int) -> float:
        """The SNR for what is left of the sequence."""
        if self._control is not None:
            route = self._route
            await self._control.settle(lambda: route.under_way_bytes + self._waiting_bytes())
            spent_s = time.perf_counter() - self._started
            sent_bytes = self._request.kept_bytes if self._request else 0
            self.snr_db = self._control.choose(
                points, spent_s, sent_bytes, self._waiting_bytes(), route.under_way_bytes
            )
        return self.snr_db

    def _waiting_bytes(self) -> int:
        """What is coded, and not sent yet."""
        return self.seconds.payload_bytes - self._sent_payload_bytes
