"""Both commands by a hub name: a revision can be pinned, and is compared when they meet."""

import subprocess
import sys

import pytest
from fake_hub import fake_hub
from featurewire_bench.process import ServerProcess
from featurewire_bench.random_models import random_llama

NAME, OLD, NEW = "owner/a-llama", "1" * 40, "2" * 40
CLIENT = (sys.executable, "-c", "from featurewire_client.cli import main; main()")
SERVER = (sys.executable, "-c", "from featurewire_server.cli import main; main()")


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


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (SERVER, ("--model", NAME, "--split", "layers.1", "--metrics-port", "0")),
        (CLIENT, ("generate", NAME, "w1", "--server", "127.0.0.1:9")),
    ],
    ids=["server", "client"],
)
@pytest.mark.parametrize("trouble", ["gated", "no network"])
def test_a_name_that_the_hub_does_not_give_is_one_sentence(
    hub, monkeypatch, command, arguments, trouble
):
    said = f"{NAME} is gated: ask for access at {hub.address}/{NAME}, then log in with `hf auth"
    hub.gated.add(NAME)
    if trouble == "no network":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        said = "connect to the network, or give a folder that holds it."
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert said in lines[0]
