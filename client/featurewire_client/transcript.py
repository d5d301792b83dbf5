"""What a request has sent and been told: enough to ask another server for the rest."""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.status import Refusal
from featurewire.wire.tensors import join_outputs, pack
from featurewire_models import Features

from featurewire_client.errors import SessionError


class Transcript:
    """One request: its Begin and coded chunks, in order, and the answers so far.

    Attributes:
        begin: with every tensor described, as a new session needs it.
        chunks: all that were sent, or are about to be.
        sent_bytes, received_bytes: serialised size of the messages that travelled, those of
            repetitions included.
        replays: how often a session was replaced.
        account: the server's, once the request is over.
    """

    def __init__(self, begin: pb.Begin) -> None:
        self.begin = begin
        self.chunks: list[pb.Chunk] = []
        self.sent_bytes = 0
        self.received_bytes = 0
        self.replays = 0
        self.account: pb.Account | None = None
        self._outputs: list[pb.OutputChunk] = []
        self._told: Counter[str] = Counter()

    def server_ms(self, stage: str) -> float:
        """What a stage, "queue", "decode" or "tail", took on the servers."""
        if self.begin.HasField("generation"):
            return self._told[stage] / 1000
        seconds = getattr(self.account, f"{stage}_seconds", 0.0)
        return float(1000 * seconds)

    @property
    def kept_bytes(self) -> int:
        """Size of what is kept to repeat the request."""
        return self.begin.ByteSize() + sum(chunk.ByteSize() for chunk in self.chunks)

    @property
    def answer_bytes(self) -> int:
        """Size of the outputs, repetitions not counted."""
        return sum(output.ByteSize() for output in self._outputs)

    def note(self, response: pb.InferResponse) -> pb.Token | None:
        """Takes an answer in; the token, where it is one."""
        if response.HasField("account"):
            self.account = response.account
        if response.HasField("output"):
            self._outputs.append(response.output)
        if not response.HasField("token"):
            return None
        token = response.token
        self.begin.generation.delivered.append(token.id)
        self._told.update(queue=token.queue_us, decode=token.decode_us, tail=token.tail_us)
        return token

    def again(self) -> Iterator[pb.Begin | pb.Chunk]:
        """The messages that bring a new session to where the old one was."""
        self._outputs = []
        yield self.begin
        yield from self.chunks

    def outputs(self) -> dict[str, torch.Tensor]:
        """The outputs by name.

        Raises:
            SessionError: the server's messages do not fit together.
        """
        try:
            return join_outputs(self._outputs)
        except Refusal as refusal:
            raise SessionError(f"the server's outputs are malformed: {refusal}") from refusal


def begin_of(features: Features, outputs: Sequence[str]) -> pb.Begin:
    """Announces a feature; `outputs` are the names of those wanted back, none: all.

    Raises:
        SessionError: it has a tensor that cannot travel.
    """
    tensors = []
    for name, tensor in features.tensors.items():
        batch, tokens, channels = tensor.shape
        rows, columns = features.grids.get(name, (0, 0))
        tensors.append(
            pb.CodedTensor(
                name=name,
                batch=batch,
                tokens=tokens,
                channels=channels,
                grid_rows=rows,
                grid_columns=columns,
            )
        )
    try:
        return pb.Begin(tensors=tensors, uncoded=pack(features.uncoded), outputs=outputs)
    except Refusal as refusal:
        raise SessionError(f"the features cannot be sent: {refusal}") from refusal
