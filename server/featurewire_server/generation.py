"""One generation: spans of features in, tokens out, with the tail's cache between them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire import limits
from featurewire.wire.status import Refusal
from featurewire_models import Features
from featurewire_models.text_stream import TextStream
from featurewire_models.transfer import settle

from featurewire_server.causal_request import CausalRequest
from featurewire_server.handshake import Terms
from featurewire_server.refusals import out_of_order, too_large
from featurewire_server.sampling import next_token
from featurewire_server.scheduler import Ran


@dataclass(frozen=True)
class Drawn:
    """What a span came to: the next token, none where the prompt goes on or it is a replay."""

    token: int | None
    position: int
    finish: pb.Finish = pb.FINISH_UNSPECIFIED


class Generation(CausalRequest):
    """A prompt and what is drawn after it, token by token, and its settings.

    Attributes:
        given_up: another request has begun in place of its next chunk: none of it runs any more.
    """

    def __init__(self, begin: pb.Begin, terms: Terms, received_bytes: int) -> None:
        """`received_bytes`: of the Begin as it came.

        Raises:
            Refusal, ModelError: as of every causal request; settings that are none.
        """
        super().__init__("a generation", begin, terms, received_bytes)
        settings, tensor = begin.generation, begin.tensors[0]
        room = terms.context - tensor.tokens + 1
        most = min(settings.max_tokens or room, room)
        if len(settings.delivered) > most:
            raise too_large("a generation's delivered tokens", len(settings.delivered), most)
        drawn = settings.sampling
        if not (0 <= drawn.temperature < math.inf and 0 <= drawn.top_p <= 1):
            found = f"temperature {drawn.temperature} and top_p {drawn.top_p}"
            allowed = "0 or more, and 0 to 1"
            message = f"a generation has {found}; {allowed} are allowed"
            raise Refusal("INPUT_INVALID", message, found=found, allowed=allowed)
        stops = sum(map(len, settings.stop))
        if len(settings.stop) > limits.MAX_STOPS or stops > limits.MAX_STOP_CHARACTERS:
            found = f"{len(settings.stop)} stop strings of {stops} characters"
            allowed = f"{limits.MAX_STOPS} of {limits.MAX_STOP_CHARACTERS}"
            message = f"a generation has {found}; {allowed} together are allowed"
            raise Refusal("TOO_LARGE", message, found=found, allowed=allowed)
        self._untold: Counter[str] = Counter()  # seconds of each stage that no token has told yet
        self._prompt = tensor.tokens
        self._drawn = 0
        self._finished = False
        self.given_up = False
        self._max_tokens = most
        self._vocabulary = terms.vocabulary
        self._text = TextStream(terms.vocabulary, settings.stop) if terms.vocabulary else None
        self.cache_bytes = terms.tail.cache_bytes(self._prompt + self._max_tokens - 1)

    def add(self, chunk: pb.Chunk, payload_bytes: int) -> int:
        """As of every causal request, while the text goes on."""
        self.check_open()
        return super().add(chunk, payload_bytes)

    def check_open(self) -> None:
        """Raises Refusal: the last token has been drawn already."""
        if self._finished:
            raise out_of_order("a chunk after the last token", "a begin")

    @property
    def is_complete(self) -> bool:
        """Whether it takes no further chunk: the last token has been drawn."""
        return self._finished

    @property
    def has_come(self) -> bool:
        """Whether all chunks are here that it may take, answered or not."""
        return self._taken >= self._prompt + self._max_tokens - 1

    @property
    def is_answered(self) -> bool:
        """Whether the bitstream that came last is answered by a token, in place of an Ack."""
        past = self._taken - self._prompt
        return past >= len(self.begin.generation.delivered)

    @property
    def is_prefilling(self) -> bool:
        """Whether the tail has not seen all of the prompt yet."""
        return self.cache.length < self._prompt

    def draw(self, logits: torch.Tensor) -> Drawn:
        """The next token from the logits `[vocabulary]` of the last one; on a worker's thread.

        Raises:
            Refusal: a delivered token is none of the vocabulary.
        """
        seen = self.cache.length
        if seen < self._prompt:
            return Drawn(None, seen)
        settings = self.begin.generation
        replayed = self._drawn < len(settings.delivered)
        if replayed:
            token = settings.delivered[self._drawn]
            if token >= len(logits):
                found, allowed = str(token), f"0 to {len(logits) - 1}"
                message = f"a delivered token is {found}; {allowed} are allowed"
                raise Refusal("INPUT_INVALID", message, found=found, allowed=allowed)
        else:
            token = next_token(logits, settings.sampling, seen)
        self._drawn += 1
        finish = self._finish(token, seen)
        return Drawn(None if replayed else token, seen, finish)

    def tell(self, ran: Ran[Drawn], decode_s: float) -> pb.Token | None:
        """The token that a pass has drawn, with the stages' times since the last one was told."""
        self._untold.update({"queue": ran.queue_s, "decode": decode_s, "tail": ran.run_s})
        drawn = ran.result
        if drawn.token is None:
            return None
        untold, self._untold = self._untold, Counter()
        self.tally["tokens"] += 1
        return pb.Token(
            request=self.begin.request,
            position=drawn.position,
            id=drawn.token,
            finish=drawn.finish,
            **{f"{stage}_us": round(1e6 * seconds) for stage, seconds in untold.items()},
        )

    def _finish(self, token: int, seen: int) -> pb.Finish:
        finish = pb.FINISH_UNSPECIFIED
        if self._text is not None and self._vocabulary is not None:
            if self.begin.generation.stop:
                self._text.add(token)
            if self._text.ended or token in self._vocabulary.end_ids:
                finish = pb.FINISH_STOP
        if not finish and self._drawn >= self._max_tokens:
            finish = pb.FINISH_CONTEXT if seen >= self._context else pb.FINISH_LENGTH
        self._finished = bool(finish)
        return finish


@dataclass(frozen=True)
class Step:
    """One token's features of one generation, ready for the tail."""

    generation: Generation
    features: Features


def run_steps(steps: Sequence[Step], terms: Terms) -> list[Drawn | Exception]:
    """Draws the next token of each sequence after one pass of the tail; on a worker's thread.

    What one sequence's numbers do not allow is an error of that one alone.
    """
    features = [step.features for step in steps]
    logits = terms.tail.steps(features, [step.generation.cache for step in steps])
    settle(logits[-1])  # a prompt that goes on draws nothing, but its time is told
    outcomes: list[Drawn | Exception] = []
    for step, row in zip(steps, logits, strict=True):
        try:
            outcomes.append(step.generation.draw(row))
        except Exception as error:
            outcomes.append(error)
    return outcomes
