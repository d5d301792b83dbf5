"""A proxy whose upstream dies ends the stream in its own words: the caller sees the same text."""

import asyncio
import contextlib
from typing import Self

import grpc
import pytest
import torch
from featurewire_client import SessionError, SplitClient
from featurewire_server import service as server_service
from featurewire_server.answers import Answers
from featurewire_server.decoding import Decoding
from featurewire_server.session import Session

MODEL = "tiny-llama3"
DRAWN = {"max_tokens": 12, "temperature": 1.2, "seed": 11}
PREFACE_BYTES, HEAD_BYTES = 24, 9  # RFC 9113: before a client's frames, and before each frame
HEADERS, RST_STREAM = 1, 3
END_STREAM, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def reset(code: int):
    return lambda stream: frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def trailers(status: grpc.StatusCode):
    """Literal fields that no table keeps (RFC 7541, 6.2.2): the status as gRPC sends it."""
    name, value = b"grpc-status", str(status.value[0]).encode()
    block = b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
    return lambda stream: frame(HEADERS, END_STREAM | END_HEADERS, stream, block)


class Proxy:
    """Hands frames on between clients and a server, until `upstream_dies`."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._ends: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stream = 0  # the one that was opened last

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # until asyncio has closed the sockets

    def upstream_dies(self, last_words) -> None:
        near, far = self._ends[-1]
        far.transport.abort()
        near.write(last_words(self._stream))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.append(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_connection(*self._target.split(":"))
        self._ends.append((writer, far_writer))
        try:
            await asyncio.gather(self._up(reader, far_writer), self._down(far_reader, writer))
        finally:
            writer.transport.abort()
            far_writer.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            writer.write(await reader.readexactly(PREFACE_BYTES))
            while True:
                head, payload = await self._frame(reader)
                if head[3] == HEADERS:
                    self._stream = int.from_bytes(head[5:], "big")
                writer.write(head + payload)
        writer.transport.abort()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                writer.write(b"".join(await self._frame(reader)))

    async def _frame(self, reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
        head = await reader.readexactly(HEAD_BYTES)
        return head, await reader.readexactly(int.from_bytes(head[:3], "big"))


LAST_WORDS = {
    "a reset, INTERNAL_ERROR": reset(2),
    "a reset, NO_ERROR": reset(0),
    "a reset, CANCEL": reset(8),
    "the status UNKNOWN": trailers(grpc.StatusCode.UNKNOWN),
    "the status UNAVAILABLE": trailers(grpc.StatusCode.UNAVAILABLE),
}


@pytest.mark.parametrize("words", LAST_WORDS)
async def test_a_text_goes_on_behind_a_proxy_whose_upstream_dies(serve, words):
    async with (
        serve(MODEL) as server,
        Proxy(server.address) as proxy,
        SplitClient(proxy.address, MODEL) as client,
    ):
        whole = "".join([piece async for piece in client.generate("Return the", **DRAWN)])
        pieces = client.generate("Return the", **DRAWN)
        text = await anext(pieces)
        proxy.upstream_dies(LAST_WORDS[words])
        await asyncio.sleep(0.3)  # the client hears it before it writes its next message
        text += "".join([piece async for piece in pieces])
        assert client.last_stats.replays == 1
    assert text == whole


async def test_what_a_proxy_does_not_permit_is_not_tried_again(serve):
    async with (
        serve(MODEL) as server,
        Proxy(server.address) as proxy,
        SplitClient(proxy.address, MODEL) as client,
    ):
        pieces = client.generate("Return the", **DRAWN)
        await anext(pieces)
        proxy.upstream_dies(trailers(grpc.StatusCode.PERMISSION_DENIED))
        await asyncio.sleep(0.3)
        with pytest.raises(SessionError, match="answered PERMISSION_DENIED"):
            await anext(pieces)


def fails(*_: object, **__: object) -> None:
    raise RuntimeError("nobody expected this")


@pytest.mark.parametrize(
    ("where", "what"),
    [(server_service, "agree"), (Session, "receive"), (Decoding, "begin"), (Answers, "to")],
)
async def test_the_servers_own_fault_is_never_unknown_and_not_tried_again(
    llama, serve, monkeypatch, where, what
):
    """So UNKNOWN is nobody's but a proxy's or gRPC's."""
    async with serve(llama) as server:
        monkeypatch.setattr(where, what, fails)
        with pytest.raises(SessionError, match="answered INTERNAL: the server failed"):
            async with SplitClient(server.address, str(llama), timeout_s=10) as client:
                await client.infer({"input_ids": torch.tensor([[5, 6]])})
        name, code = "featurewire_server_errors_total", {"code": "INTERNAL"}
        assert server._registry.get_sample_value(name, code) == 1
