"""The commands against a server process: answers, accounts, and one plain sentence on bad input."""

import asyncio
import http
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from featurewire_bench.process import ServerProcess
from featurewire_bench.relay import Relay
from featurewire_client import SplitClient, client
from featurewire_client.cli import main as client_main
from featurewire_models import describe, load_model, load_processor
from featurewire_server.cli import main as server_main
from PIL import Image


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with ServerProcess(["tiny-llama3", "tiny-dinov2"]) as process:
        yield process


@pytest.fixture
def featurewire(run, server) -> Callable[..., tuple[int, str, str]]:
    """A client command against the server process."""
    return lambda *arguments: run(client_main, *arguments, "--server", server.address)


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "picture.png"
    shades = np.random.default_rng(0).integers(0, 255, (48, 96, 3), dtype=np.uint8)
    Image.fromarray(shades).save(path)
    return path


def sentence(err: str) -> str:
    """The one line that a person reads, which names no file of the program's."""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def test_generate_streams_the_unsplit_models_text_and_accounts_for_it(featurewire):
    status, out, err = featurewire(
        "generate", "tiny-llama3", "Return the number", "--max-tokens", 8, "--codec", "float32"
    )
    assert status == 0
    processor = load_processor("tiny-llama3")
    model = load_model("tiny-llama3")
    ids = processor.inputs("Return the number")["input_ids"]
    cache, expected = model.new_cache(), []
    for _ in range(8):
        ids = model({"input_ids": ids}, cache=cache).logits[:, -1:].argmax(-1)
        expected.append(int(ids))
    assert out == processor.decode(expected) + "\n"
    assert re.search(r"sent \d+ bytes .* 8 tokens", err)


def test_the_trellis_sends_less(featurewire):
    passage = describe("tiny-llama3").path / "samples" / "passage.txt"
    sent = {}
    for effort in ("fast", "trellis"):
        options = ("--effort", effort, "--profile", "none", "--json")
        status, out, err = featurewire("infer", "tiny-llama3", passage, *options)
        assert status == 0, err
        sent[effort] = json.loads(out)["stats"]["sent_bytes"]
    assert sent["trellis"] < sent["fast"]


@pytest.mark.parametrize("command", ["infer", "generate"])
def test_an_account_says_what_it_costs_to_have_no_profile(featurewire, command):
    said = "without a profile at layers.4: bitstreams that describe themselves take"
    for options, expected in (((), False), (("--profile", "none"), True)):
        status, out, err = featurewire(command, "tiny-llama3", "def", *options)
        assert status == 0, err
        assert (said in err) == expected
        _, out, err = featurewire(command, "tiny-llama3", "def", *options, "--json")
        assert json.loads(out)["profiled"] != expected
        assert said not in err
    assert said not in featurewire(command, "tiny-llama3", "def", "--codec", "float16")[2]


def test_a_warning_of_calibration_is_a_sentence_alone(run, tmp_path):
    (tmp_path / "a.txt").write_text("a few words")
    options = ("--split", "layers.1", "--data", tmp_path, "--out", tmp_path / "profile")
    status, _, err = run(client_main, "calibrate", "tiny-llama3", *options)
    assert status == 0
    (line,) = err.splitlines()
    assert line.startswith("featurewire: ")
    assert "calibration tokens for 128 channels" in line


def test_generate_as_json_gives_text_and_account(featurewire):
    status, out, _ = featurewire(
        "generate", "tiny-llama3", "If the list", "--max-tokens", 4, "--json"
    )
    answer = json.loads(out)
    assert status == 0
    assert answer["stats"]["tokens"] == 4
    assert answer["stats"]["sent_bytes"] < answer["stats"]["float16_bytes"]


@pytest.mark.parametrize("temperature", [0, 1e-300, 1e-38])
def test_next_to_temperature_0_the_likeliest_token_is_taken_too(featurewire, temperature):
    options = ("--temperature", temperature, "--top-k", 9, "--top-p", 0.9, "--max-tokens", 8)
    status, out, _ = featurewire("generate", "tiny-llama3", "Return the number", *options)
    greedy = featurewire("generate", "tiny-llama3", "Return the number", "--max-tokens", 8)
    assert (status, out) == greedy[:2]


def test_the_same_seed_gives_the_same_text_and_another_one_another(featurewire):
    def text(seed: int) -> str:
        options = ("--temperature", 1, "--seed", seed, "--max-tokens", 12, "--json")
        return json.loads(featurewire("generate", "tiny-llama3", "The", *options)[1])["text"]

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(4)}) > 1


def test_a_stop_string_ends_the_text_before_it(featurewire):
    whole = featurewire("generate", "tiny-llama3", "The", "--max-tokens", 20)[1]
    word = whole.split()[3]
    cut = featurewire("generate", "tiny-llama3", "The", "--max-tokens", 20, "--stop", word)[1]
    assert whole.startswith(cut.rstrip("\n"))
    assert word not in cut


def test_the_published_method_runs_beside_our_own(featurewire):
    passage = describe("tiny-llama3").path / "samples" / "passage.txt"
    sent = {}
    for codec in ("featurewire", "dt-ufc"):
        options = ("--codec", codec, "--snr-db", 10, "--json")
        status, out, err = featurewire("infer", "tiny-llama3", passage, *options)
        assert status == 0, err
        stats = json.loads(out)["stats"]
        sent[codec] = stats["sent_bytes"]
        assert stats["sent_bytes"] < stats["float16_bytes"]
    assert sent["featurewire"] < sent["dt-ufc"]


def test_the_published_method_sends_less_where_less_quality_is_asked_for(featurewire):
    passage, sent = describe("tiny-llama3").path / "samples" / "passage.txt", []
    for snr_db in (-20, 1, 10):
        options = ("--codec", "dt-ufc", "--snr-db", snr_db, "--json")
        status, out, err = featurewire("infer", "tiny-llama3", passage, *options)
        assert status == 0, err
        sent.append(json.loads(out)["stats"]["sent_bytes"])
    assert sent == sorted(set(sent))


@pytest.mark.parametrize(("task", "kind"), [("segmentation", "classes"), ("depth", "values")])
def test_infer_gives_a_map_of_the_pictures_own_size(featurewire, picture, tmp_path, task, kind):
    target = tmp_path / "map.npy"
    status, out, err = featurewire("infer", "tiny-dinov2", picture, "--task", task, "--out", target)
    assert status == 0
    assert f"48 x 96 {kind}" in out
    assert np.load(target).shape == (48, 96)
    assert "bits each" in err


def test_infer_gives_a_label_as_json(featurewire, picture):
    status, out, _ = featurewire("infer", "tiny-dinov2", picture, "--json")
    answer = json.loads(out)
    assert status == 0
    assert answer["result"]["label"] in "zero one two three four five six seven eight nine"
    assert answer["stats"]["features"] > 0


def test_models_lists_what_the_server_has(featurewire):
    status, out, _ = featurewire("models", "--json")
    assert status == 0
    assert [row["model"] for row in json.loads(out)] == ["tiny-llama3", "tiny-dinov2"]
    assert "tiny-llama3" in featurewire("models")[1]


@pytest.mark.parametrize(
    "arguments",
    [("infer", "tiny-dinov2", "PICTURE"), ("generate", "tiny-llama3", "The", "--max-tokens", 2)],
)
def test_split_auto_runs_where_the_plan_would(featurewire, picture, monkeypatch, arguments):
    entered: list[str] = []
    enter = SplitClient.__aenter__

    async def noted(self):
        await enter(self)
        entered.append(self.split)
        return self

    monkeypatch.setattr(SplitClient, "__aenter__", noted)
    given = [picture if argument == "PICTURE" else argument for argument in arguments]
    status, out, err = featurewire(*given, "--split", "auto", "--json")
    assert status == 0, err
    assert json.loads(out)["stats"]["features"] > 0
    assert entered[:-1] == list(describe(arguments[1]).splits)  # the plan's
    assert sentence(err).startswith(f"Split at {entered[-1]}: ")


def test_a_budget_of_bytes_lowers_the_quality_and_one_that_is_too_small_is_said(
    featurewire, picture
):
    options = ("--snr-db", 30, "--json")
    free = json.loads(featurewire("infer", "tiny-dinov2", picture, *options)[1])["stats"]
    bound = ("--budget-bytes", free["sent_bytes"] // 2)
    status, out, err = featurewire("infer", "tiny-dinov2", picture, *options, *bound)
    assert status == 0, err
    stats = json.loads(out)["stats"]
    assert stats["snr_db"] < free["snr_db"]
    assert stats["sent_bytes"] < free["sent_bytes"]
    assert stats["shortfall_bytes"] == 0
    out = featurewire("infer", "tiny-dinov2", picture, *options, "--budget-bytes", 20)[1]
    assert json.loads(out)["stats"]["shortfall_bytes"] > 0


def test_a_budget_goes_no_lower_and_no_higher_than_the_bounds_of_the_command(featurewire, picture):
    for options, snr_db in (
        (("--budget-bytes", 20, "--least-snr-db", 12), 12),
        (("--budget-bytes", 10**6, "--most-snr-db", 14, "--snr-db", 25), 14),
    ):
        status, out, err = featurewire("infer", "tiny-dinov2", picture, "--json", *options)
        assert status == 0, err
        assert json.loads(out)["stats"]["snr_db"] == pytest.approx(snr_db, abs=0.02)
    options = ("--max-tokens", 2, "--budget-bytes", 20, "--least-snr-db", 12, "--json")
    status, out, err = featurewire(
        "generate", "tiny-llama3", "Return the number of a value", *options
    )
    assert status == 0, err
    assert json.loads(out)["stats"]["snr_db"] == 12


def test_a_budget_for_elements_as_they_are_is_refused(featurewire, picture):
    options = ("--codec", "float16", "--split", "auto", "--latency-budget-ms", 100)
    for request in (("infer", "tiny-dinov2", picture), ("generate", "tiny-llama3", "x")):
        status, _, err = featurewire(*request, *options)
        assert status == 2
        assert "no quality that a budget could choose" in sentence(err)  # and no plan


@pytest.mark.parametrize(
    "arguments",
    [
        ("infer", "tiny-dinov2", "PICTURE"),
        ("generate", "tiny-llama3", "The", "--max-tokens", 2),
        ("infer", "tiny-dinov2", "PICTURE", "--split", "auto"),
        ("plan", "tiny-dinov2", "--runs", 1),
    ],
)
def test_heads_compute_in_what_and_on_what_the_command_says(
    featurewire, picture, monkeypatch, arguments
):
    placed: list[tuple[str, str]] = []
    load_head = client.load_head

    def noted(*arguments, **settings):
        placed.append((settings["dtype"], settings["device"]))
        return load_head(*arguments, **settings)

    monkeypatch.setattr(client, "load_head", noted)
    given = [picture if part == "PICTURE" else part for part in arguments]
    status, _, err = featurewire(*given, "--dtype", "bfloat16", "--device", "auto")
    assert status == 0, err
    assert set(placed) == {("bfloat16", "auto")}


def test_plan_predicts_every_split_point_and_names_the_fastest(featurewire):
    status, out, _ = featurewire("plan", "tiny-dinov2", "--runs", 1, "--json")
    answer = json.loads(out)
    served = json.loads(featurewire("models", "--json")[1])
    assert status == 0
    assert [row["split"] for row in answer["rows"]] == served[1]["splits"]
    fastest = min(answer["rows"], key=lambda row: row["total_ms"])
    assert answer["best"] == fastest["split"]
    assert answer["reason"].startswith(f"Split at {fastest['split']}: ")
    assert answer["link"]["round_trip_ms"] > 0
    assert all(row["request"]["sent_bytes"] > 0 for row in answer["rows"])
    assert all(row["asked"] and row["token"] is None for row in answer["rows"])


def test_plan_of_a_language_model_is_for_a_text_of_so_many_tokens(featurewire):
    options = ("--runs", 1, "--max-tokens", 3)
    status, out, _ = featurewire("plan", "tiny-llama3", *options, "--json")
    answer = json.loads(out)
    assert status == 0
    assert answer["tokens"] == 3
    assert [row["split"] for row in answer["rows"] if not row["asked"]] == ["layers.4"]
    for row in answer["rows"]:
        total_ms = row["request"]["total_ms"] + 2 * row["token"]["total_ms"]
        assert row["total_ms"] == pytest.approx(total_ms)
        assert 0 < row["token"]["sent_bytes"] < row["request"]["sent_bytes"]
    assert "for 3 tokens" in answer["reason"]
    status, out, _ = featurewire("plan", "tiny-llama3", *options)
    assert status == 0
    assert re.search(r"predicted, ms; .* Mbit/s", out)
    assert "between the neighbours': layers.4" in " ".join(out.split())


def test_a_plan_is_for_features_that_travel_as_asked_for(featurewire):
    """`generate` would send them so too."""
    options = ("plan", "tiny-llama3", "--runs", 1, "--max-tokens", 2, "--json")

    def rows(*more: object) -> list[dict]:
        status, out, err = featurewire(*options, *more)
        assert status == 0, err
        return json.loads(out)["rows"]

    plain = rows("--codec", "float16")
    assert all(row["token"]["sent_bytes"] > 256 for row in plain)  # 128 channels
    free = rows("--profile", "none", "--effort", "trellis")
    assert not any(row["profiled"] for row in free)
    assert all(row["token"]["sent_bytes"] < 256 for row in free)
    status, _, err = featurewire(*options, "--codec", "zip")
    assert (status, "dt-ufc, float16" in sentence(err)) == (2, True)
    status, _, err = featurewire(*options, "--timeout-s", 0.001)
    assert status == 2
    assert "within 0.001 s" in sentence(err)


def test_split_auto_says_that_it_plans_at_one_quality_where_a_budget_will_choose_another(
    featurewire, picture
):
    options = ("--split", "auto", "--snr-db", 20, "--budget-bytes", 5000)
    status, _, err = featurewire("infer", "tiny-dinov2", picture, *options, "--json")
    assert status == 0, err
    assert "at 20 dB, not at what the budget will choose." in sentence(err)


def test_a_profile_learned_from_own_data_is_served_fetched_and_cheaper(run, tmp_path, monkeypatch):
    profile, cache = tmp_path / "profile", tmp_path / "cache"
    data = tmp_path / "texts"
    data.mkdir()
    sources = sorted(Path(json.__file__).parent.glob("*.py"))
    sources += sorted(Path(http.__file__).parent.glob("*.py"))
    (data / "a.txt").write_text("\n".join(path.read_text() for path in sources))
    options = ("--split", "layers.1", "--data", data, "--out", profile, "--limit", 60)
    status, out, err = run(client_main, "calibrate", "tiny-llama3", *options)
    assert status == 0, err
    assert "--profile" in out
    monkeypatch.setattr("featurewire_client.profiles.CACHE", cache)
    with ServerProcess(["tiny-llama3"], ["--profile", str(profile)]) as process:
        passage = describe("tiny-llama3").path / "samples" / "passage.txt"
        text = passage.read_text()
        generate = ("generate", "tiny-llama3", text, "--json", "--max-tokens", 1)
        place = ("--split", "layers.1", "--server", process.address)
        with_profile = json.loads(run(client_main, *generate, *place)[1])["stats"]["bpfp"]
        without = json.loads(run(client_main, *generate, *place, "--profile", "none")[1])
        own = run(client_main, *generate, *place, "--profile", profile)
        moved = ("--split", "layers.2", "--server", process.address, "--profile", profile)
        wrong = run(client_main, *generate, *moved)
    assert with_profile < without["stats"]["bpfp"]
    assert own[0] == 0
    assert len(list(cache.iterdir())) == 1
    assert wrong[0] == 2
    assert "learned at split 'layers.1', and 'layers.2' is wanted" in sentence(wrong[2])


@pytest.mark.parametrize("beside", [True, False])
def test_a_model_copied_under_another_name_keeps_its_profiles(run, tmp_path, monkeypatch, beside):
    monkeypatch.setattr("featurewire_client.profiles.CACHE", tmp_path / "cache")
    copied = shutil.copytree(describe("tiny-llama3").path, tmp_path / "my-llama")
    served = ["--split", "layers.4"]
    if not beside:
        shutil.rmtree(copied / "profiles")
        profiles = describe("tiny-llama3").profile_folder("layers.4", "generation")
        served += ["--profile", str(profiles)]
    with ServerProcess([str(copied)], served) as process:
        options = ("x", "--server", process.address, "--max-tokens", 1, "--json")
        status, out, err = run(client_main, "generate", copied, *options)
    assert status == 0, err
    assert json.loads(out)["profiled"]


BAD_INPUT = {
    "unknown model": (("generate", "no-such-model", "x"), "no-such-model"),
    "model that the server lacks": (("generate", "tiny-sd3", "x"), "tiny-llama3, tiny-dinov2"),
    "split point beyond the model": (
        ("generate", "tiny-llama3", "x", "--split", "layers.99"),
        "layers.0 to layers",
    ),
    "seed over 64 bits": (("generate", "tiny-llama3", "x", "--seed", "9" * 25), "--seed"),
    "negative seed": (
        ("generate", "tiny-llama3", "x", "--seed", -1),
        "'--seed': -1 is not among 0 to 9",
    ),
    "more tokens than a message holds": (
        ("generate", "tiny-llama3", "x", "--max-tokens", 2**32),
        "4294967296 is not among 1 to 4294967295",
    ),
    "draws among more than a message holds": (
        ("generate", "tiny-llama3", "x", "--top-k", 2**32),
        "4294967296 is not among 0 to 4294967295",
    ),
    "a least quality above the most": (
        ("generate", "tiny-llama3", "x", "--budget-bytes", 99, "--least-snr-db", 31),
        "a budget's least quality is 31 dB, and the most 30 dB",
    ),
    "a bound of the quality without a budget": (
        ("infer", "tiny-dinov2", "x.png", "--least-snr-db", 9),
        "--least-snr-db bounds a budget; give --latency-budget-ms or --budget-bytes too",
    ),
    "temperature that is no number": (
        ("generate", "tiny-llama3", "x", "--temperature", "nan"),
        "--temperature",
    ),
    "quality beyond the range": (
        ("generate", "tiny-llama3", "x", "--snr-db", 1000),
        "'--snr-db': 1000.0 is not among -30 to 120",
    ),
    "quality that is no number": (
        ("generate", "tiny-llama3", "x", "--snr-db", "nan"),
        "'--snr-db': nan is not among -30 to 120",
    ),
    "qualities of which one is no number": (
        ("evaluate", "tiny-llama3", "--data", "x", "--snr-db", 20, "--snr-db", "nan"),
        "'--snr-db': nan is not among -30 to 120",
    ),
    "bound of the quality that is no number": (
        ("infer", "tiny-llama3", "x", "--budget-bytes", 99, "--most-snr-db", "nan"),
        "'--most-snr-db': nan is not among -30 to 120",
    ),
    "text of a model of images": (("generate", "tiny-dinov2", "x"), "generates no text"),
    "unknown codec": (("generate", "tiny-llama3", "x", "--codec", "zip"), "dt-ufc, float16"),
    "unknown dtype": (
        ("generate", "tiny-llama3", "x", "--dtype", "float8"),
        "'float8' is not one of float32, float16, bfloat16",
    ),
    "device that is not there": (
        ("generate", "tiny-llama3", "x", "--device", "cuda:99"),
        "'cuda:99' cannot be used here; cpu can",
    ),
    "unknown effort": (("generate", "tiny-llama3", "x", "--effort", "most"), "'fast', 'trellis'"),
    "unknown task": (("infer", "tiny-dinov2", "x.png", "--task", "sorting"), "classification"),
    "prompt with an invalid byte": (("generate", "tiny-llama3", "x\udcff"), r"2 is '\udcff'"),
    "stop string with an invalid byte": (
        ("generate", "tiny-llama3", "x", "--stop", "\udcff"),
        r"stop is '\udcff'",
    ),
    "empty prompt": (("generate", "tiny-llama3", ""), "empty"),
    "prompt over the context": (("generate", "tiny-llama3", "word " * 5000), "context is"),
    "image that is not there": (("infer", "tiny-dinov2", "nowhere.png"), "nowhere.png"),
    "image that is none": (("infer", "tiny-dinov2", __file__), "no image"),
    "profile that is none": (("generate", "tiny-llama3", "x", "--profile", "/"), "set.json"),
    "a folder to write to that is not there": (
        ("infer", "tiny-llama3", "x", "--out", "/no/such/folder/x.json"),
        "cannot be written",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_gets_one_sentence_and_status_2_and_the_server_goes_on(featurewire, case):
    arguments, said = BAD_INPUT[case]
    status, _, err = featurewire(*arguments)
    assert status == 2
    assert said in sentence(err)
    assert featurewire("models")[0] == 0


def test_no_server_is_one_sentence_naming_the_address(run):
    arguments = ("generate", "tiny-llama3", "x", "--server", "127.0.0.1:9")
    status, _, err = run(client_main, *arguments)
    assert status == 2
    assert "no server answers at 127.0.0.1:9" in sentence(err)


BAD_START = {
    "unknown model": (("--model", "no-such-model"), "no-such-model"),
    "split point beyond the model": (
        ("--model", "tiny-llama3", "--split", "layers.99"),
        "layers.0",
    ),
    "folder that is no model": (("--model", "/tmp"), "tmp/config.json"),
    "address that is none": (("--model", "tiny-llama3", "--listen", "nowhere"), "nowhere"),
    **{
        f"{option} {value}": (
            ("--model", "tiny-llama3", option, value),
            f"'{option}': {value} is not among {bounds}",
        )
        for option, bounds in (
            ("--grace-s", "0 to 4294967"),
            ("--idle-s", "0.1 to 4294967"),
            ("--batch-wait-ms", "0 to 60000"),
        )
        for value in ("inf", "nan", "-1")
    },
}


@pytest.mark.parametrize("case", BAD_START)
def test_a_server_that_cannot_start_says_why_and_exits_2(run, case):
    arguments, said = BAD_START[case]
    status, _, err = run(server_main, *arguments, "--metrics-port", 0)
    assert status == 2
    assert said in sentence(err)


def test_a_port_in_use_is_one_sentence_and_status_2(run, server):
    options = ("--model", "tiny-llama3", "--metrics-port", 0)
    status, _, err = run(server_main, *options, "--listen", server.address)
    assert status == 2
    assert f"cannot listen on address {server.address}: it is in use" in sentence(err)


def test_a_port_in_use_prints_nothing_beside_its_sentence(server):
    script = Path(sys.executable).parent / "featurewire-server"
    options = ("--model", "tiny-llama3", "--metrics-port", "0", "--listen", server.address)
    ended = subprocess.run(
        [script, *options], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 2
    assert server.address in sentence(ended.stderr)
    assert ended.stdout == ""


@pytest.mark.parametrize("address", ["", "nonsense", "127.0.0.1:99999", ":50051"])
def test_an_address_that_is_none_is_one_sentence(run, address):
    status, _, err = run(client_main, "models", "--server", address)
    assert status == 2
    assert f"{address!r} is not HOST:PORT" in sentence(err)


def test_a_metrics_port_in_use_is_one_sentence_and_status_2(run, server):
    port = server.address.split(":")[1]
    options = ("--model", "tiny-llama3", "--listen", "127.0.0.1:0")
    status, _, err = run(server_main, *options, "--metrics-port", port)
    assert status == 2
    assert f"cannot listen on metrics address 127.0.0.1:{port}" in sentence(err)


def test_sigterm_ends_the_server_cleanly():
    with ServerProcess(["tiny-llama3"]) as process:
        process._process.send_signal(signal.SIGTERM)
        assert process._process.wait(20) == 0
        assert "stopped after" in process.log()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_a_server_that_waits_for_its_sessions(second):
    with ServerProcess(["tiny-llama3"], ("--grace-s", "60")) as process:
        async with SplitClient(process.address, "tiny-llama3") as client:
            pieces = client.generate("Return the", max_tokens=400)
            await anext(pieces)
            process.kill(signal.SIGTERM)
            for _ in range(200):
                if "a second SIGTERM or Ctrl-C stops at once" in process.log():
                    break
                await asyncio.sleep(0.05)
            assert "open sessions: 1; their requests may go on for 60 s" in process.log()
            process.kill(second)
            assert process.wait(5) == -second
            await pieces.aclose()


def test_ctrl_c_ends_a_server_that_is_loading_at_once_and_quietly():
    slow = """
import time
from featurewire_server import cli, server

def load(config):
    print("loading", flush=True)
    time.sleep(30)
    return Tails(config)

Tails, server.Tails = server.Tails, load
cli.main()
"""
    command = [sys.executable, "-c", slow, "--model", "tiny-llama3", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--metrics-port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_ends_a_text_with_the_account_of_what_came(server, as_json):
    with Relay(server.address, rtt_ms=50) as link:
        script = Path(sys.executable).parent / "featurewire"
        command = [script, "generate", "tiny-llama3", "Return the", "--max-tokens", "400"]
        with subprocess.Popen(
            [*command, "--server", link.address, *(["--json"] if as_json else [])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while link.down_bytes < 4000 and process.poll() is None:  # some tokens
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    if as_json:
        told = json.loads(out)
        assert (told["finish"], err) == ("interrupted", "")
        assert 0 < told["stats"]["tokens"] < 400
        assert told["text"]
    else:
        assert re.search(r"^sent \d+ bytes for .*; \d+ tokens, first after", err)
        assert out.strip()


@pytest.mark.parametrize("script", ["featurewire", "featurewire-server"])
def test_the_installed_scripts_show_help_with_an_example(script):
    path = Path(sys.executable).parent / script
    command = [path, "generate", "--help"] if script == "featurewire" else [path, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert f"Example: {script}" in shown.stdout


@pytest.mark.parametrize(
    "script", ["featurewire", "featurewire-server", "featurewire-codec", "featurewire-bench"]
)
def test_the_installed_scripts_show_their_version(script):
    command = [Path(sys.executable).parent / script, "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (shown.stdout, shown.stderr) == (version("featurewire") + "\n", "")


def test_a_command_without_arguments_shows_help_alone():
    command = [Path(sys.executable).parent / "featurewire"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert "Usage: featurewire" in shown.stdout + shown.stderr
    assert "featurewire: " not in shown.stderr
