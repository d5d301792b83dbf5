"""Both commands by a hub name: a revision can be pinned, and is compared when they meet."""

import subprocess
import sys

import pytest
from fake_hub import fake_hub
from featurewire_bench.process import ServerProcess
from featurewire_bench.random_models import random_llama

NAME, OLD, NEW = "owner/a-llama", "1" * 40, "2" * 40
CLIENT = (sys.executable, "-c", "from featurewire_client.cli import main; main()")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub whose model has moved on since, which every process here takes for the real one."""
    commits = {
        commit: random_llama(tmp_path / commit, channels=64, blocks=blocks)
        for commit, blocks in ((OLD, 2), (NEW, 3))
    }
    with fake_hub({NAME: commits}) as served:
        for name, value in served.environment(tmp_path / "cache").items():
            monkeypatch.setenv(name, value)
        yield served


def generate(name: str, address: str) -> tuple[int, str]:
    """The exit status of a client's command, and what it says to a person."""
    arguments = ("generate", name, "w1 w2", "--server", address, "--max-tokens", "2")
    done = subprocess.run(
        [*CLIENT, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stderr


def test_a_pinned_revision_is_served_and_any_other_is_refused_with_both(hub):
    with ServerProcess([f"{NAME}@{OLD}"], ["--split", "layers.1"]) as server:
        status, said = generate(f"{NAME}@{OLD}", server.address)
        assert status == 0, said
        status, said = generate(NAME, server.address)
        assert status == 2
        assert f"revision of {NAME}: the client has '{NEW}', the server '{OLD}'" in said
