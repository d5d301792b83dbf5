"""The feature of one text in spans: each through the tail at once, the outputs of all joined."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.tensors import output_chunks, unpack
from featurewire_models import Features, Tail
from featurewire_models.transfer import Download

from featurewire_server.causal_request import CausalRequest
from featurewire_server.handshake import Terms

Outputs = dict[str, torch.Tensor]

_BESIDE = 1  # which of the logits are kept


class SpannedFeature(CausalRequest):
    """A sequence that is over with its last announced token."""

    def __init__(self, begin: pb.Begin, terms: Terms, received_bytes: int) -> None:
        """`received_bytes`: of the Begin as it came.

        Raises:
            Refusal, ModelError: as of every causal request; an uncoded tensor is malformed.
        """
        super().__init__("a feature in spans", begin, terms, received_bytes, _BESIDE)
        self._uncoded = unpack(begin.uncoded)
        self.cache_bytes += terms.tail.span_bytes(self._announced, self._uncoded)
        self._unsent: list[Outputs] = []
        self._kept = 0  # tokens that have outputs, known with the first of them
        self._described: set[str] = set()

    @property
    def is_over(self) -> bool:
        """Whether the tail has seen all tokens."""
        return self.cache.length == self._announced

    def run(self, tail: Tail, features: Features) -> Outputs:
        """The outputs of a pass over its next tokens, in main memory; on a worker's thread."""
        features = replace(features, uncoded=self._uncoded)
        return Download(tail.span(features, self.cache, self._announced)).wait()

    def chunks_of(self, outputs: Outputs) -> Iterator[pb.OutputChunk]:
        """What can be sent, with the outputs of one more pass, of one sequence each.

        None before all tokens have come: megabytes of outputs would hold up the Acks.
        """
        if outputs and not self._kept:  # those of all tokens behind the first one are
            first = next(iter(outputs.values()))
            self._kept = first.shape[1] + self._announced - self.cache.length
        self._unsent.append(outputs)
        while self.is_complete and self._unsent:
            for chunk in output_chunks(self.begin.request, [self._unsent.pop(0)]):
                if chunk.shape and chunk.name in self._described:
                    chunk.ClearField("shape")
                    chunk.ClearField("data_type")
                elif chunk.shape:  # of all spans: row-major, their bytes follow one another
                    chunk.shape[1] = self._kept
                    self._described.add(chunk.name)
                yield chunk
