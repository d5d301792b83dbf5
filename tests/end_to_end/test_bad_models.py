"""A folder that is not what it should be: one sentence, before any of its weights are read."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from featurewire_bench.process import ServerProcess
from featurewire_client import ClientError, SplitClient
from featurewire_client.cli import main as client_main
from featurewire_models import (
    WeightsError,
    checkpoint,
    describe,
    load_head,
    load_model,
    load_tail,
)
from featurewire_server.cli import main as server_main
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    Dinov2Config,
    Dinov2ForImageClassification,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
)

BLOCKS, SPLIT = 4, "layers.2"


def llama(folder: Path) -> Path:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=BLOCKS,
        num_attention_heads=4,
        vocab_size=97,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="10KB")
    return folder


def shard_of(folder: Path, tensor: str) -> Path:
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    return folder / index["weight_map"][tensor]


def no_config(folder: Path, block: int) -> str:
    (llama(folder) / "config.json").unlink()
    return f"{folder.name}/config.json does not exist, so this folder is no model folder; give one"


def changed_config(**changes: object):
    def change(folder: Path, block: int) -> str:
        path = llama(folder) / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        return "config.json"

    return change


def index_of_numbers(folder: Path, block: int) -> str:
    path = llama(folder) / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps({"weight_map": dict.fromkeys(index["weight_map"], 3)}))
    return "model.safetensors.index.json is no index of weight files"


def classifier(folder: Path, block: int) -> str:
    path = llama(folder) / "config.json"
    changes = {"architectures": ["LlamaForSequenceClassification"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return "is a llama model (LlamaForSequenceClassification); the families are"


def unknown_model(folder: Path, block: int) -> str:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "nobodys", "architectures": ["Nobodys"]}')
    return "its model_type is 'nobodys'); the families are llama"


def unsplit_architecture(folder: Path, block: int) -> str:
    GPT2Config(architectures=["GPT2LMHeadModel"]).save_pretrained(folder)
    return f"{folder.name} is a gpt2 model (GPT2LMHeadModel); the families are llama"


def missing_shard(folder: Path, block: int) -> str:
    shard = shard_of(llama(folder), f"model.layers.{block}.mlp.down_proj.weight")
    shard.unlink()
    return f"{shard.name} is missing in {folder.name}; copy or download the folder again"


def missing_tensor(folder: Path, block: int) -> str:
    name = f"model.layers.{block}.mlp.down_proj.weight"
    path = llama(folder) / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["weight_map"][name]
    path.write_text(json.dumps(index))
    return f"The weights in {folder.name} lack the tensor {name}; give a folder whose config.json"


def other_shape(folder: Path, block: int) -> str:
    name = f"model.layers.{block}.mlp.down_proj.weight"
    shard = shard_of(llama(folder), name)
    save_file({**load_file(shard), name: torch.ones(3, 48)}, shard)
    return f"The tensor {name} has shape [3, 48] in the weights, but the configuration asks for"


def quantised(dtype: torch.dtype, called: str):
    def change(folder: Path, block: int) -> str:
        name = f"model.layers.{block}.mlp.down_proj.weight"
        shard = shard_of(llama(folder), name)
        held = load_file(shard)
        save_file({**held, name: held[name].to(dtype)}, shard)
        return f"The tensor {name} holds {called} in {shard.name}, which only a quantised model's"

    return change


def cut_shard(folder: Path, block: int) -> str:
    shard = shard_of(llama(folder), f"model.layers.{block}.mlp.down_proj.weight")
    shard.write_bytes(shard.read_bytes()[:50])
    return f"The file {shard.name} cannot be read ("


def pickled(folder: Path, block: int) -> str:
    for path in llama(folder).glob("*.safetensors*"):
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")
    return "pytorch_model.bin is never unpickled here: save it as safetensors"


DESCRIBED = {  # found in the configuration
    "no configuration": no_config,
    "architecture that nobody wrote": unknown_model,
    "architecture that is not split": unsplit_architecture,
    "width that is no number": changed_config(hidden_size="wide"),
    "quantised by a name alone": changed_config(quantization_config="int8"),
    "classifier": classifier,
    "no heads": changed_config(num_attention_heads=0),
    "fewer blocks than none": changed_config(num_hidden_layers=-1),
}
LOOKED_UP = {  # found in the files of weights
    "missing shard": missing_shard,
    "missing tensor": missing_tensor,
    "tensor of another shape": other_shape,
    "shard that was cut short": cut_shard,
    "integers for weights": quantised(torch.int8, "I8"),
    "floats of eight bits": quantised(torch.float8_e4m3fn, "F8_E4M3"),
}


@pytest.fixture
def unread(monkeypatch):
    """Nothing may be read of any weights."""

    def read(path: Path, key: str, dtype: torch.dtype) -> None:
        pytest.fail(f"{key} was read")

    monkeypatch.setattr(checkpoint, "_read", read)


def check(answer: tuple[int, str, str], said: str) -> None:
    status, _, err = answer
    assert status == 2, err
    lines = [line for line in err.splitlines() if "Writing model shards" not in line]
    assert len(lines) == 1, err
    assert said in lines[0]


WHOLE = {  # both halves find it
    "pickles alone": pickled,
    "index of numbers": index_of_numbers,
}


@pytest.mark.parametrize("case", [*DESCRIBED, *LOOKED_UP, *WHOLE])
def test_a_server_says_what_is_wrong_with_a_model(run, tmp_path, unread, case):
    made = {**DESCRIBED, **LOOKED_UP, **WHOLE}[case]
    said = made(tmp_path / "a-model", BLOCKS - 1)
    options = ("--model", tmp_path / "a-model", "--split", SPLIT, "--metrics-port", 0)
    check(run(server_main, *options), said)


def test_a_server_finds_the_second_model_wrong_before_it_reads_the_first(run, tmp_path, unread):
    said = no_config(tmp_path / "second", 0)
    models = ("--model", llama(tmp_path / "first"), "--model", tmp_path / "second")
    check(run(server_main, *models, "--metrics-port", 0), said)
    models = ("--model", tmp_path / "first", "--model", tmp_path / "first", "--split", "layers.9")
    check(run(server_main, *models, "--metrics-port", 0), "no split point 'layers.9'")
    check(run(server_main, *models[:2], "--device", "cuda:99"), "'cuda:99' cannot be used here")


@pytest.mark.parametrize("case", LOOKED_UP)
@pytest.mark.parametrize("split", [(), ("--split", SPLIT)])
def test_a_server_finds_the_second_models_weights_wrong_before_it_reads_the_first(
    run, tmp_path, unread, case, split
):
    said = LOOKED_UP[case](tmp_path / "second", BLOCKS - 1)
    models = ("--model", llama(tmp_path / "first"), "--model", tmp_path / "second")
    check(run(server_main, *models, *split, "--metrics-port", 0), said)


@pytest.mark.parametrize(
    ("part", "half", "split"),
    [
        ("text_encoder_2", "head", "prompt"),
        ("transformer", "head", "latents"),
        ("vae", "tail", "prompt"),
        ("vae", "tail", "latents"),
        ("vae", "whole", None),
    ],
)
def test_a_missing_part_of_a_diffusion_model_is_found_before_another_is_read(
    tmp_path, unread, part, half, split
):
    folder = tmp_path / "a-model"
    shutil.copytree(describe("tiny-sd3").path, folder)
    (weights,) = (folder / part).glob("*.safetensors")
    weights.unlink()
    load = {"head": load_head, "tail": load_tail, "whole": load_model}[half]
    with pytest.raises(WeightsError, match=f"{weights.name} is missing in a-model/{part};"):
        load(folder, **({"split": split} if split else {}))


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Folders that are wrong where the head is, what is to be said of each, and their server."""
    folder = tmp_path_factory.mktemp("halves")
    names = {case: folder / case.replace(" ", "-") for case in LOOKED_UP}
    said = {case: LOOKED_UP[case](path, 0) for case, path in names.items()}
    with ServerProcess([str(path) for path in names.values()], ["--split", SPLIT]) as server:
        yield names, said, server.address


@pytest.mark.parametrize("case", LOOKED_UP)
def test_a_client_says_what_is_wrong_with_its_half(run, halves, unread, case):
    names, said, address = halves
    check(run(client_main, "generate", names[case], "x", "--server", address), said[case])


@pytest.mark.parametrize("case", LOOKED_UP)
def test_a_client_says_it_too_where_its_server_has_the_whole_model(run, tmp_path, unread, case):
    """Their revisions differ, and why is to be said."""
    whole = llama(tmp_path / "whole" / "a-model")
    (tmp_path / "damaged").mkdir()
    said = LOOKED_UP[case](tmp_path / "damaged" / "a-model", 0)
    if case == "missing shard":
        said = "lacks files that its index names: copy it again"
    with ServerProcess([str(whole)], ["--split", SPLIT]) as server:
        options = ("x", "--server", server.address)
        check(run(client_main, "generate", tmp_path / "damaged" / "a-model", *options), said)


def test_a_server_names_models_and_profiles_that_it_cannot_serve_before_it_reads_any(
    run, tmp_path, unread
):
    for place in ("one", "other"):
        llama(tmp_path / place / "a-model")
    both = ("--model", tmp_path / "one" / "a-model", "--model", tmp_path / "other" / "a-model")
    check(run(server_main, *both, "--metrics-port", 0), "are both named a-model")
    profiles = describe("tiny-llama3").profile_folder("layers.4", "generation")
    options = ("--model", tmp_path / "one" / "a-model", "--profile", profiles)
    said = "are of tiny-llama3, layers.4, task generation, which is not served: served are a-model"
    check(run(server_main, *options, "--metrics-port", 0), said)
    copied = shutil.copytree(describe("tiny-llama3").path, tmp_path / "tiny-llama3")
    next(copied.glob("profiles/*/*/*/config.json")).write_text("{")
    check(run(server_main, "--model", copied, "--metrics-port", 0), "holds no profile")


@pytest.mark.parametrize("case", LOOKED_UP)
def test_calibrating_says_what_is_wrong_with_the_half(run, halves, tmp_path, unread, case):
    names, said, _ = halves
    (tmp_path / "a.txt").write_text("words")
    options = ("--split", SPLIT, "--data", tmp_path, "--out", tmp_path / "profile")
    check(run(client_main, "calibrate", names[case], *options), said[case])


@pytest.mark.parametrize("case", LOOKED_UP)
def test_calibrating_says_what_is_wrong_with_the_tail_and_how_to_do_without(
    run, tmp_path, unread, case
):
    said = LOOKED_UP[case](tmp_path / "a-model", BLOCKS - 1)
    (tmp_path / "a.txt").write_text("words")
    options = ("--split", SPLIT, "--data", tmp_path, "--out", tmp_path / "profile")
    answer = run(client_main, "calibrate", tmp_path / "a-model", *options)
    check(answer, said)
    assert "With --no-tail, and without --task-aware, the head alone makes a profile." in answer[2]


@pytest.mark.parametrize("case", DESCRIBED)
@pytest.mark.parametrize("command", ["generate", "infer", "plan", "calibrate"])
def test_every_client_command_says_what_is_no_model(run, halves, tmp_path, unread, command, case):
    said = DESCRIBED[case](tmp_path / "a-model", 0)
    arguments = {
        "generate": ("x", "--server", halves[2]),
        "infer": ("x", "--server", halves[2]),
        "plan": ("--server", halves[2]),
        "calibrate": ("--split", SPLIT, "--data", tmp_path, "--out", tmp_path / "profile"),
    }
    check(run(client_main, command, tmp_path / "a-model", *arguments[command]), said)


@pytest.mark.parametrize("case", LOOKED_UP)
def test_evaluating_says_what_is_wrong_with_the_whole_model(run, halves, tmp_path, unread, case):
    said = LOOKED_UP[case](tmp_path / "a-model", BLOCKS - 1)
    check(evaluated(run, tmp_path, halves[2]), said)


def test_evaluating_finds_that_there_is_no_server_before_it_reads_a_model(run, tmp_path, unread):
    llama(tmp_path / "a-model")
    check(evaluated(run, tmp_path, "127.0.0.1:1"), "no server answers at 127.0.0.1:1")


async def test_a_folder_of_one_halfs_shards_meets_a_server_by_the_wholes_digest(tmp_path):
    whole = llama(tmp_path / "whole" / "a-model")
    half = shutil.copytree(whole, tmp_path / "half" / "a-model")
    index = json.loads((whole / "model.safetensors.index.json").read_text())["weight_map"]
    first = {file for name, file in index.items() if "embed" in name or ".layers.0." in name}
    first |= {file for name, file in index.items() if ".layers.1." in name}
    for file in set(index.values()) - first:
        (half / file).unlink()
    digest = describe(whole).revision
    with ServerProcess([str(whole)], ["--split", SPLIT]) as server:
        async with SplitClient(server.address, f"{half}@{digest}", codec="float32") as client:
            result = await client.infer({"input_ids": torch.arange(9)[None]})
        with pytest.raises(ClientError, match=f"revision of a-model.* put @{digest} behind its"):
            await SplitClient(server.address, str(half)).__aenter__()
    with torch.inference_mode():
        expected = load_model(whole)({"input_ids": torch.arange(9)[None]}).logits
    torch.testing.assert_close(result.output.logits, expected)


def evaluated(run, folder: Path, server: str) -> tuple[int, str, str]:
    processor = describe("tiny-llama3").path
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(processor / name, folder / "a-model" / name)
    answers = {"text": ["a", "b"], "label": ["A", "B"]}
    question = {"id": "1", "question": "What?", "choices": answers, "answerKey": "A"}
    (folder / "questions.jsonl").write_text(json.dumps(question))
    options = ("--task", "reasoning", "--data", folder / "questions.jsonl", "--timeout-s", 5)
    return run(client_main, "evaluate", folder / "a-model", *options, "--server", server)


def bert(folder: Path) -> str:
    BertModel(BertConfig(**SMALL, vocab_size=97)).save_pretrained(folder)
    return "encoder.layer.3.output.dense.weight"


def dinov2(folder: Path) -> str:
    config = Dinov2Config(**SMALL, image_size=28, patch_size=7, num_labels=3)
    Dinov2ForImageClassification(config).save_pretrained(folder)
    return "dinov2.encoder.layer.3.mlp.fc2.weight"


SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
SMALL |= {"num_attention_heads": 4}
DAMAGES = {
    "missing": (lambda held, name: {n: t for n, t in held.items() if n != name}, "lack the tensor"),
    "shape": (lambda held, name: held | {name: torch.ones(3, 5)}, "has shape"),
    "integers": (lambda held, name: held | {name: held[name].to(torch.int8)}, "holds I8"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("make", [bert, dinov2])
def test_a_damaged_tensor_of_any_family_is_named_before_others_are_read(
    tmp_path, unread, make, damage
):
    name = make(tmp_path / "a-model")
    change, said = DAMAGES[damage]
    path = tmp_path / "a-model" / "model.safetensors"
    save_file(change(load_file(path), name), path, metadata={"format": "pt"})
    for load in (load_tail, load_model):
        with pytest.raises(WeightsError, match=f"{re.escape(name)}.*{said}|{said}.*{name}"):
            load(tmp_path / "a-model")
