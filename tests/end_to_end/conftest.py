"""Small random models saved as hub-style folders, and servers of them on real sockets."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire.wire import limits
from featurewire_bench.process import ServerProcess
from featurewire_client import SplitClient
from featurewire_models import describe
from featurewire_server import Server, ServerConfig
from transformers import LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))  # for the hub on loopback
sys.path.insert(0, str(Path(__file__).parent))

from drawn_text import ALONE, DRAWN, MODEL, PROMPT, text_of


def save_llama(folder: Path, **sizes: int) -> Path:
    """A random Llama of 97 words, saved in a folder."""
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=97, intermediate_size=64, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def llama(tmp_path_factory) -> Path:
    """A random Llama of four blocks."""
    return save_llama(
        tmp_path_factory.mktemp("models") / "random-llama",
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )


@pytest.fixture(scope="session")
def wide(tmp_path_factory) -> Path:
    """A random Llama whose features of 1500 tokens are coded in several chunks."""
    return save_llama(
        tmp_path_factory.mktemp("models") / "wide",
        hidden_size=1024,
        num_hidden_layers=1,
        num_attention_heads=8,
        max_position_embeddings=2048,
    )


@contextlib.asynccontextmanager
async def serving(*models: Path | str, **settings) -> AsyncIterator[Server]:
    """A server on a free port of loopback, stopped at the end."""
    settings = {"listen": "127.0.0.1:0", "metrics_port": 0, "grace_s": 0.2, **settings}
    server = Server(ServerConfig(models=tuple(map(str, models)), **settings))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
def serve():
    return serving


@pytest.fixture(scope="module")
def spare():
    """A server process that no test harms."""
    with ServerProcess([MODEL], ALONE) as server:
        yield server


@pytest.fixture(scope="module")
def unbroken(spare) -> str:
    """The drawn text, from one server all along."""

    async def run() -> str:
        async with SplitClient(spare.address, MODEL) as client:
            text = await text_of(client.generate(PROMPT, **DRAWN))
            assert client.last_stats.replays == 0
            assert client.last_stats.tokens == 40
            return text

    return asyncio.run(run())


@pytest.fixture
def offer(llama) -> pb.Handshake:
    """A handshake that a server of the random Llama agrees to."""
    info = describe(llama)
    return pb.Handshake(
        protocol_min=limits.PROTOCOL_MIN,
        protocol_max=limits.PROTOCOL_MAX,
        model=info.name,
        revision=info.revision,
        split="layers.2",
        codec="featurewire",
    )


@pytest.fixture
def server_log(caplog):
    """Returns what a server has logged so far; the client of the same process logs beside it."""
    caplog.set_level(logging.INFO, logger="featurewire.server")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "featurewire.server"]


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Runs a command's main as its script would: exit status, stdout, stderr."""

    def call(main: Callable[[], None], *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        out, err = capsys.readouterr()
        return status, out, err

    return call
