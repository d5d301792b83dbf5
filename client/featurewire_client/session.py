"""One stream to the server: features in, outputs or a token and the server's account out."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire.status import Refusal
from featurewire.wire.tensors import join_outputs, pack
from featurewire_models import Features

from featurewire_client.connection import Connection
from featurewire_client.errors import ClientError, SessionError, client_error


@dataclass(frozen=True)
class CodedSample:
    """One sample of one tensor, coded."""

    tensor: int
    sample: int
    pieces: list[bytes]


@dataclass(frozen=True)
class Reply:
    """The answer to one request; sizes are those of the messages as they travelled."""

    outputs: dict[str, torch.Tensor]
    token: pb.Token | None
    account: pb.Account
    sent_bytes: int
    received_bytes: int


class Session:
    """An open stream that has shaken hands."""

    def __init__(self, connection: Connection, call: Any, terms: pb.HandshakeReply) -> None:
        self._connection = connection
        self._call = call
        self.terms = terms
        self._requests = 0
        self._tensors: list[pb.CodedTensor] = []

    @classmethod
    async def open(cls, connection: Connection, offer: pb.Handshake) -> "Session":
        """Opens a stream and agrees on its terms.

        Raises:
            ClientError: the server is gone, or refuses the offer.
        """
        call = connection.stub.Infer()
        session = cls(connection, call, pb.HandshakeReply())
        await session._write(pb.InferRequest(handshake=offer))
        session.terms = (await session._read("handshake")).handshake
        return session

    async def request(
        self,
        features: Features,
        coded: Iterable[CodedSample],
        sampling: pb.Sampling | None = None,
        outputs: Sequence[str] = (),
    ) -> Reply:
        """Sends one feature and waits for its answer.

        Args:
            features: of the coded tensors only the shapes and grids are used.
            coded: the samples of its tensors, in order.
            sampling: set for a step of a generation.
            outputs: names of the outputs wanted; none: all.

        Raises:
            ClientError: the server is gone, or refuses the request.
        """
        self._requests += 1
        try:
            uncoded = pack(features.uncoded)
        except Refusal as refusal:
            raise SessionError(f"the features cannot be sent: {refusal}") from refusal
        tensors = [
            _describe(name, tensor, features.grids.get(name, (0, 0)))
            for name, tensor in features.tensors.items()
        ]
        same, self._tensors = tensors == self._tensors, tensors
        begin = pb.Begin(
            request=self._requests,
            tensors=() if same else tensors,
            uncoded=uncoded,
            sampling=sampling,
            outputs=outputs,
        )
        sent_bytes = begin.ByteSize()
        received_bytes = 0
        await self._write(pb.InferRequest(begin=begin))
        chunks = list(self._chunks(coded))
        under_way = 0
        for index, chunk in enumerate(chunks):
            chunk.last = index == len(chunks) - 1
            if under_way >= self.terms.limits.max_chunks_in_flight:
                received_bytes += (await self._read("ack")).ByteSize()
                under_way -= 1
            await self._write(pb.InferRequest(chunk=chunk))
            sent_bytes += chunk.ByteSize()
            under_way += 1
        pieces: list[pb.OutputChunk] = []
        token: pb.Token | None = None
        while True:
            response = await self._read("ack", "output", "token", "account")
            received_bytes += response.ByteSize()
            kind = response.WhichOneof("message")
            if kind == "output":
                pieces.append(response.output)
            elif kind == "token":
                token = response.token
            elif kind == "account":
                break
        try:
            joined = join_outputs(pieces)
        except Refusal as refusal:
            raise SessionError(f"the server's outputs are malformed: {refusal}") from refusal
        return Reply(joined, token, response.account, sent_bytes, received_bytes)

    def _chunks(self, coded: Iterable[CodedSample]) -> Iterable[pb.Chunk]:
        for sample in coded:
            for piece in sample.pieces:
                yield pb.Chunk(
                    request=self._requests,
                    tensor=sample.tensor,
                    sample=sample.sample,
                    payload=piece,
                )

    @property
    def ended(self) -> bool:
        """The server, or the network, has ended the stream."""
        return bool(self._call.done())

    async def close(self) -> None:
        """Ends the stream; the server frees what it kept."""
        if not self._call.done():
            await self._call.done_writing()
            self._call.cancel()

    async def _write(self, message: pb.InferRequest) -> None:
        try:
            await self._call.write(message)
        except asyncio.InvalidStateError:
            raise await self._ended() from None
        except grpc.aio.AioRpcError as error:
            raise client_error(error, self._connection.address, connected=True) from error

    async def _read(self, *expected: str) -> pb.InferResponse:
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise client_error(error, self._connection.address, connected=True) from error
        if response is grpc.aio.EOF:
            raise await self._ended()
        assert isinstance(response, pb.InferResponse)
        if response.WhichOneof("message") not in expected:
            found = response.WhichOneof("message")
            raise SessionError(f"the server sent a {found} where {expected} was expected")
        return response

    async def _ended(self) -> ClientError:
        """Why the stream is over, when it was found to be."""
        code = await self._call.code()
        details = await self._call.details()
        trailers = await self._call.trailing_metadata()
        address = self._connection.address
        if code is grpc.StatusCode.OK:
            return SessionError(f"the server at {address} ended the session")
        error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details=details)
        return client_error(error, address, connected=True)


def _describe(name: str, tensor: torch.Tensor, grid: tuple[int, int]) -> pb.CodedTensor:
    batch, tokens, channels = tensor.shape
    rows, columns = grid
    return pb.CodedTensor(
        name=name,
        batch=batch,
        tokens=tokens,
        channels=channels,
        grid_rows=rows,
        grid_columns=columns,
    )
