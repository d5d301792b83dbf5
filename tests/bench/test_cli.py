"""featurewire-bench on a command line: one sentence and exit code 2 on bad input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from featurewire_bench import cli, large


def stopped(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["featurewire-bench", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["relay", "nowhere"], "address is 'nowhere'; it must be HOST:PORT"),
        (["relay", "127.0.0.1:1", "--rate-mbit", "0"], "rate is 0.0 Mbit/s; it must be more than"),
        (["relay", "127.0.0.1:1", "--rtt-ms", "-1"], "round trip is -1.0 ms; it must be 0 or more"),
        (["demo", "--rate-mbit", "-5"], "rate is -5.0 Mbit/s; it must be more than"),
        (["sweep", "--codec", "gzip"], "codec is 'gzip'; it must be one of featurewire, dt-ufc"),
    ],
)
def test_bad_input_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    sentence: str,
) -> None:
    assert stopped(monkeypatch, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"featurewire-bench: {sentence}")


@pytest.mark.parametrize("command", ["demo", "sweep", "codecs", "large", "relay"])
def test_every_command_has_help_with_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert stopped(monkeypatch, command, "--help") == 0
    assert f"Example: featurewire-bench {command}" in " ".join(capsys.readouterr().out.split())


def test_the_large_command_measures_each_way_beside_the_whole_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shape = ["--layers", "2", "--channels", "128", "--words", "300", "--split", "layers.1"]
    run = ["--prompt-tokens", "100", "--tokens", "5", "--device", "cpu", "--folder", str(tmp_path)]
    codecs = ["--codec", "featurewire", "--codec", "float16"]
    monkeypatch.setattr(large, "REPEATS", 1)
    assert stopped(monkeypatch, "large", *shape, *run, *codecs, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["way"] for row in found["rows"]] == ["unsplit", "featurewire", "float16"]
    assert all(row["prefill_ms"] > 0 and row["tokens_s"] > 0 for row in found["rows"])
    _, coded, whole = found["rows"]
    assert coded["prompt_bytes"] < 100 * 128 * 2 <= whole["prompt_bytes"]
    assert coded["token_bytes"] < 128 * 2 <= whole["token_bytes"] < 128 * 2 + 32
    assert not list(tmp_path.iterdir())


def test_the_relay_command_tells_its_address_and_ends_on_interrupt() -> None:
    command = [sys.executable, "-c", "from featurewire_bench.cli import main; main()"]
    arguments = ["relay", "127.0.0.1:1", "--json"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        process.send_signal(2)
        assert process.wait(20) == 0
    host, _, port = told["address"].rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0
