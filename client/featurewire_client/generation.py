"""A generation at the edge: a prompt in, pieces of text out, one token a message."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire import limits
from featurewire_models.text_stream import TextStream

from featurewire_client.edge import Edge
from featurewire_client.errors import SessionError, SettingError
from featurewire_client.quality import QualityControl
from featurewire_client.route import Route
from featurewire_client.span_sender import SpanSender
from featurewire_client.stats import InferStats, of_request
from featurewire_client.stop_strings import stop_strings

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
        self._control = control
        self._sender = SpanSender(edge, route, snr_db, control)
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

    async def _prompt(self, ids: torch.Tensor, cache: object, settings: pb.Generation) -> pb.Token:
        coded = await self._sender.sequence(ids, cache, pb.Begin(generation=settings))
        sent = time.perf_counter()
        token = await self._route.token(self._sender.request)
        if self._control is not None:
            self._sender.learn(self._control, coded, time.perf_counter() - sent)
        return token

    async def _step(self, token: int, cache: object) -> pb.Token:
        sender = self._sender
        await sender.send(await self._edge.step(token, cache, sender.snr_db, sender.seconds))
        return await self._route.token(sender.request)

    def stats(self) -> InferStats | None:
        """The account so far; None before the first token."""
        if not self._tokens:
            return None
        total_s = time.perf_counter() - self._started
        sender = self._sender
        return of_request(
            sender.request, sender.seconds, total_s, sender.snr_db, self._tokens, self._first_s
        )
