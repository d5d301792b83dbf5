"""A generation at the edge: a prompt in, pieces of text out, one token a message."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire import limits
from featurewire_models.text_stream import TextStream

from featurewire_client.edge import Edge, Seconds, Span, cut
from featurewire_client.errors import ClientError, SessionError, SettingError
from featurewire_client.quality import PROBING_BYTES, Coded, QualityControl
from featurewire_client.route import Route
from featurewire_client.stats import InferStats, of_request
from featurewire_client.stop_strings import stop_strings
from featurewire_client.transcript import Transcript

log = logging.getLogger("featurewire.client")

_REASONS = {
    pb.FINISH_STOP: "stop",
    pb.FINISH_LENGTH: "length",
    pb.FINISH_CONTEXT: "context",
}


def settings_of(
    max_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    stop: str | Sequence[str],
) -> pb.Generation:
    """What a Begin says of a generation; one string is one stop string.

    Raises:
        SettingError: a number is out of its range, or UTF-8 holds no such stop.
    """
    for name, value, most in (
        ("max_tokens", max_tokens, limits.MAX_COUNT),
        ("top_k", top_k, limits.MAX_COUNT),
        ("seed", seed, limits.MAX_SEED),
    ):
        if not 0 <= value <= most:
            raise SettingError(f"{name} is {value}; 0 to {most} is allowed")
    return pb.Generation(
        sampling=pb.Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed),
        stop=stop_strings(stop),
        max_tokens=max_tokens,
    )


class Generation:
    """One text's way: the head's cache here, the tail's on the server.

    Attributes:
        finish_reason: why it ended: "stop", "length" or "context"; "" while it has not.
    """

    def __init__(
        self,
        edge: Edge,
        route: Route,
        text: TextStream,
        snr_db: float,
        control: QualityControl | None = None,
    ) -> None:
        """`control`, where there is one, chooses the quality span by span in place of `snr_db`."""
        self._edge = edge
        self._route = route
        self._text = text
        self._snr_db = snr_db
        self._control = control
        self._seconds = Seconds()
        self._request: Transcript | None = None
        self._sent_payload_bytes = 0
        self._tokens = 0
        self._started = time.perf_counter()
        self._first_s = 0.0
        self.finish_reason = ""

    async def pieces(
        self,
        ids: torch.Tensor,
        settings: pb.Generation,
        deadline: Callable[[], AbstractAsyncContextManager[None]],
    ) -> AsyncIterator[str]:
        """The text, as it comes, of the prompt `[1, tokens]`; `deadline` bounds each token.

        Raises:
            ClientError, ModelError, CodecError: as `SplitClient.infer`.
        """
        cache = self._edge.head.new_cache()
        async with deadline():
            token = await self._prompt(ids, cache, settings)
        while True:
            self._tokens += 1
            self._first_s = self._first_s or time.perf_counter() - self._started
            piece = self._text.add(token.id)
            if piece:
                yield piece
            if token.finish or self._text.ended:
                break
            if self._tokens >= settings.max_tokens:
                raise SessionError(f"the server goes on after {self._tokens} tokens, all asked for")
            async with deadline():
                token = await self._step(token.id, cache)
        if rest := self._text.rest():
            yield rest
        if not self._text.ended and token.finish not in _REASONS:
            raise SessionError(f"the server ended a text for an unknown reason, {token.finish}")
        self.finish_reason = "stop" if self._text.ended else _REASONS[token.finish]
        if not token.finish:  # a server without a tokenizer knows neither stop strings nor ends
            await self._route.abandon()
            return
        try:
            async with deadline():
                await self._route.account(self._known())
        except ClientError as error:
            log.warning("the text is complete, its account did not come: %s", error)

    async def _prompt(self, ids: torch.Tensor, cache: object, settings: pb.Generation) -> pb.Token:
        coded = []
        async for span in self._edge.spans(ids, cache, self._quality, self._seconds):
            if self._request is None:
                tensor = pb.CodedTensor(
                    name=span.name, batch=1, tokens=ids.shape[1], channels=span.channels
                )
                self._request = Transcript(pb.Begin(tensors=[tensor], generation=settings))
                await self._route.begin(self._request)
            await self._send(span)
            coded.append(Coded(span.snr_db, span.points, span.payload_bytes))
        sent = time.perf_counter()
        token = await self._route.token(self._known())
        if self._control is not None:
            answered_s = time.perf_counter() - sent
            self._control.learn(coded, self._known().sent_bytes, answered_s)
        return token

    async def _quality(self, points: int) -> float:
        """The SNR for what is left of the prompt."""
        if self._control is not None:
            route = self._route
            await self._control.settle(lambda: route.under_way_bytes + self._waiting_bytes())
            spent_s = time.perf_counter() - self._started
            sent_bytes = self._request.sent_bytes if self._request else 0
            self._snr_db = self._control.choose(
                points, spent_s, sent_bytes, self._waiting_bytes(), route.under_way_bytes
            )
        return self._snr_db

    def _waiting_bytes(self) -> int:
        """What is coded, and not sent yet."""
        return self._seconds.payload_bytes - self._sent_payload_bytes

    async def _step(self, token: int, cache: object) -> pb.Token:
        await self._send(await self._edge.step(token, cache, self._snr_db, self._seconds))
        return await self._route.token(self._known())

    async def _send(self, span: Span) -> None:
        for chunk in cut(span.chunks, PROBING_BYTES if self._control else ()):
            await self._route.send(self._known(), chunk)
            self._sent_payload_bytes += len(chunk.payload)

    def _known(self) -> Transcript:
        assert self._request is not None
        return self._request

    def stats(self) -> InferStats | None:
        """The account so far; None before the first token."""
        if not self._tokens:
            return None
        total_s = time.perf_counter() - self._started
        return of_request(
            self._known(), self._seconds, total_s, self._snr_db, self._tokens, self._first_s
        )
