"""One generation: spans of features in, tokens out, with the tail's cache between them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire import limits
from featurewire.wire.coder import max_coded_bytes
from featurewire.wire.status import Refusal
from featurewire_models import Features
from featurewire_models.text_stream import TextStream
from featurewire_models.transfer import settle

from featurewire_server.handshake import Terms
from featurewire_server.refusals import check_chunk, out_of_order, too_large
from featurewire_server.sampling import next_token


@dataclass(frozen=True)
class Drawn:
    """What a span came to: the next token, none where the prompt goes on or it is a replay."""

    token: int | None
    position: int
    finish: pb.Finish = pb.FINISH_UNSPECIFIED


class Generation:
    """A sequence's cache, the settings it is drawn with, and how far it has come.

    Attributes:
        received_bytes: serialised size of its messages so far, Begin included.
        cache_bytes: what its cache may grow to; reserved_bytes: what is set aside for it now.
        tally: what the tail's passes have come to so far: bytes, features, seconds of each stage.
        untold: seconds of each stage that no token has told yet.
    """

    def __init__(self, begin: pb.Begin, terms: Terms, received_bytes: int) -> None:
        """`received_bytes`: of the Begin as it came.

        Raises:
            Refusal: not one sequence of one tensor, or more tokens than the context.
        """
        settings, context = begin.generation, terms.context
        if len(begin.tensors) != 1 or begin.tensors[0].batch != 1 or begin.uncoded:
            batch = begin.tensors[0].batch if begin.tensors else 0
            found = f"{len(begin.tensors)} x {batch}"
            message = (
                f"a generation of {found} tensors and samples, with {len(begin.uncoded)} tensors"
                " beside them; 1 x 1 with none is allowed"
            )
            raise Refusal("TOO_LARGE", message, found=found, allowed="1 x 1")
        tensor = begin.tensors[0]
        if tensor.tokens > context:
            raise too_large("a generation's tokens", tensor.tokens, context)
        room = context - tensor.tokens + 1
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
        self.begin = begin
        self.cache = terms.tail.new_cache()
        self.received_bytes = received_bytes
        self.tally: Counter[str] = Counter()
        self.untold: Counter[str] = Counter()
        self.chunks = 0
        self._channels = tensor.channels
        self._prompt = tensor.tokens
        self._context = context
        self._pass_tokens = terms.tail.pass_tokens
        self._taken = 0  # tokens whose bitstreams have come
        self._bitstream_bytes = 0
        self._drawn = 0
        self._finished = False
        self._max_tokens = most
        self._vocabulary = terms.vocabulary
        self._text = TextStream(terms.vocabulary, settings.stop) if terms.vocabulary else None
        self.reserved_bytes = 0
        self.cache_bytes = terms.tail.cache_bytes(self._prompt + self._max_tokens - 1)

    def add(self, chunk: pb.Chunk, payload_bytes: int) -> int:
        """Counts one chunk in: the tokens of the bitstream that it completes, or 0.

        Raises:
            Refusal: it is out of order or too large.
        """
        check_chunk(chunk, self.begin.request, payload_bytes)
        self.check_open()
        if chunk.tensor or chunk.sample:
            raise out_of_order(f"sample {chunk.sample} of tensor {chunk.tensor}", "the only one")
        allowed = max(self._prompt - self._taken, 1)
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

    def check_open(self) -> None:
        """Raises Refusal: the last token has been drawn already."""
        if self._finished:
            raise out_of_order("a chunk after the last token", "a begin")

    @property
    def is_answered(self) -> bool:
        """Whether the bitstream that came last is answered by a token, in place of an Ack."""
        past = self._taken - self._prompt
        return past >= len(self.begin.generation.delivered)

    @property
    def is_prefilling(self) -> bool:
        """Whether the tail has not seen all of the prompt yet."""
        return self.cache.length < self._prompt

    def has_pass(self, tokens: int) -> bool:
        """Whether so many decoded tokens are what the tail takes next: of a prompt, a pass full."""
        left = self._prompt - self.cache.length
        return tokens >= min(self._pass_tokens, left)

    def draw(self, logits: torch.Tensor) -> Drawn:
        """The next token from the logits `[vocabulary]` of the last one; on a worker's thread."""
        seen = self.cache.length
        if seen < self._prompt:
            return Drawn(None, seen)
        settings = self.begin.generation
        replayed = self._drawn < len(settings.delivered)
        if replayed:
            token = settings.delivered[self._drawn]
        else:
            token = next_token(logits, settings.sampling, seen)
        self._drawn += 1
        finish = self._finish(token, seen)
        return Drawn(None if replayed else token, seen, finish)

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
