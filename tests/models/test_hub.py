"""A hub name, over HTTP: just the files of the asked half come, of the commit asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fake_hub import fake_hub
from featurewire_models import load_model
from transformers import LlamaConfig, LlamaForCausalLM

NAME, OLD, NEW = "owner/a-llama", "1" * 40, "2" * 40
IDS = torch.arange(3, 10)[None]

LOAD = """
import json, sys, torch
from featurewire_models import load_head, load_tail, ModelError
for request in sys.argv[1:]:
    kind, name, split = request.split()
    try:
        half = (load_head if kind == "head" else load_tail)(name, split)
    except ModelError as error:
        print(json.dumps({"error": type(error).__name__, "said": str(error)}))
        continue
    found = {"revision": half.info.revision, "name": half.info.name}
    if kind == "head":
        hidden = half({"input_ids": torch.arange(3, 10)[None]}).tensors["hidden"]
        found["sum"] = round(float(hidden.sum()), 4)
    print(json.dumps(found))
"""


def save(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        vocab_size=97,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="10KB")
    return folder


@pytest.fixture(scope="module")
def commits(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("remote")
    return {commit: save(folder / commit, seed) for seed, commit in enumerate((OLD, NEW))}


@pytest.fixture
def hub(commits):
    with fake_hub({NAME: commits}) as served:
        yield served


def load(environment: dict[str, str], *requests: str) -> list[dict[str, object]]:
    """Loads halves in a process that knows no other hub, and says what came of each."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *requests],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def shards_of(folder: Path, *parts: str) -> set[str]:
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    return {index[name] for name in index if any(part in name for part in parts)}


def test_of_a_hub_model_only_the_shards_of_the_asked_half_are_downloaded(hub, commits, tmp_path):
    every = shards_of(commits[NEW], "")
    for kind, parts in (
        ("head", ("embed", "layers.0.")),
        ("tail", ("layers.1.", "layers.2.", "layers.3.", "model.norm", "lm_head")),
    ):
        hub.fetched.clear()
        (found,) = load(hub.environment(tmp_path / kind), f"{kind} {NAME} layers.1")
        assert (found["name"], found["revision"]) == (NAME, NEW)
        shards = [file for file in hub.fetched if file.endswith(".safetensors")]
        assert sorted(shards) == sorted(shards_of(commits[NEW], *parts))
        assert len(shards) < len(every)
        assert {"config.json", "model.safetensors.index.json"} <= set(hub.fetched)


def test_a_pinned_revision_is_what_is_loaded_and_then_needs_no_network(hub, commits, tmp_path):
    environment = hub.environment(tmp_path)
    pinned = f"head {NAME}@{OLD} layers.2"
    (found,) = load(environment, pinned)
    expected = load_model(commits[OLD]).head("layers.2")({"input_ids": IDS}).tensors["hidden"]
    assert found == {"name": NAME, "revision": OLD, "sum": round(float(expected.detach().sum()), 4)}
    hub.fetched.clear()
    assert load({**environment, "HF_HUB_OFFLINE": "1"}, pinned) == [found]
    assert not hub.fetched


def test_what_the_hub_does_not_give_is_one_sentence_that_says_what_to_do(hub, tmp_path):
    hub.gated.add(NAME)
    requests = {
        "head owner/b layers.1": "owner/b is no bundled model and no local folder, and the hub has"
        " none of that name; if it is private, log in with `hf auth login` or set HF_TOKEN.",
        f"head {NAME}@v9 layers.1": f"The hub's {NAME} has no branch, tag or commit 'v9'.",
        f"tail {NAME} layers.1": f"{NAME} is gated: ask for access at {hub.address}/{NAME},"
        " then log in with `hf auth login` or set HF_TOKEN.",
    }
    found = load(hub.environment(tmp_path), *requests)
    assert found == [{"error": "SourceError", "said": said} for said in requests.values()]


def test_a_token_that_the_hub_refuses_is_named(hub, tmp_path):
    hub.closed = True
    environment = {**hub.environment(tmp_path), "HF_TOKEN": "hf_expired"}
    (found,) = load(environment, f"head {NAME} layers.1")
    said = f"{NAME} is no bundled model and no local folder, and the hub refuses the token that it"
    assert found["said"] == f"{said} was given: log in with `hf auth login` or set HF_TOKEN anew."


@pytest.mark.parametrize(
    "changes", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}]
)
def test_without_a_network_the_sentence_says_so(hub, tmp_path, changes):
    (found,) = load({**hub.environment(tmp_path), **changes}, f"head {NAME} layers.1")
    said = (
        f"{NAME} is no bundled model and no local folder, and the hub cannot be reached for what"
        " the cache lacks of it; connect to the network, or give a folder that holds it."
    )
    assert found == {"error": "SourceError", "said": said}
