"""What is asked of a generation or a budget is held against what a message, or sense, allows."""

import inspect

import pytest
import typer
from featurewire.v1 import featurewire_pb2 as pb
from featurewire_client import Budget, ClientError, SettingError
from featurewire_client.commands import options
from featurewire_client.commands.inference import generate
from featurewire_client.commands.sending import Sending, budget_of
from featurewire_client.generation import settings_of
from featurewire_client.stop_strings import stop_strings

DEFAULT = {
    "max_tokens": 5,
    "temperature": 0.0,
    "top_k": 0,
    "top_p": 1.0,
    "seed": 0,
    "stop": (),
}


@pytest.mark.parametrize("field", ["max_tokens", "top_k", "seed"])
def test_a_number_that_a_message_does_not_hold_is_named_with_its_range(field):
    most = 2**63 - 1 if field == "seed" else 2**32 - 1
    for value in (-1, most + 1):
        with pytest.raises(SettingError) as caught:
            settings_of(**{**DEFAULT, field: value})
        assert str(caught.value) == f"{field} is {value}; 0 to {most} is allowed"
        assert isinstance(caught.value, ClientError)
    for value in (0, most):
        made = settings_of(**{**DEFAULT, field: value})
        assert value == getattr(made if field == "max_tokens" else made.sampling, field)


def test_the_commands_and_the_calls_take_the_same_seeds():
    (details,) = options.Seed.__metadata__
    most = 2**63 - 1
    assert details.callback(most) == settings_of(**{**DEFAULT, "seed": most}).sampling.seed
    with pytest.raises(typer.BadParameter, match=f"{most + 1} is not among 0 to {most}"):
        details.callback(most + 1)
    with pytest.raises(SettingError, match=f"{most + 1}; 0 to {most} is allowed"):
        settings_of(**{**DEFAULT, "seed": most + 1})


def test_settings_refuse_a_stop_string_that_no_message_holds():
    with pytest.raises(SettingError, match="which UTF-8 cannot hold"):
        settings_of(**{**DEFAULT, "stop": "\ud800"})


@pytest.mark.parametrize(
    ("stop", "strings"),
    [("abc", ["abc"]), (["abc", "d"], ["abc", "d"]), (("a",), ["a"]), ((), []), ("", [""])],
)
def test_a_string_is_one_stop_string(stop, strings):
    assert settings_of(**{**DEFAULT, "stop": stop}).stop == strings


@pytest.mark.parametrize("stop", ["\ud800", ["x", "\ud800"]])
def test_a_stop_string_that_no_message_holds_is_named(stop):
    with pytest.raises(SettingError) as caught:
        stop_strings(stop)
    said = r"stop is '\ud800', which UTF-8 cannot hold: character 1 is '\ud800'"
    assert str(caught.value) == said
    assert stop_strings("\U0001f600 x") == ["\U0001f600 x"]
    assert stop_strings(("a", "b")) == ["a", "b"]


def test_what_is_asked_for_is_what_a_message_says():
    made = settings_of(7, 0.5, 3, 0.9, 11, ["x"])
    sampling = pb.Sampling(temperature=0.5, top_k=3, top_p=0.9, seed=11)
    assert made == pb.Generation(max_tokens=7, sampling=sampling, stop=["x"])


def test_a_budget_whose_least_quality_is_above_its_most_is_refused():
    with pytest.raises(SettingError, match="least quality is 31 dB, and the most 30 dB"):
        Budget(latency_ms=100, least_snr_db=31)
    with pytest.raises(SettingError, match="least"):
        Budget(latency_ms=100, least_snr_db=float("nan"))
    assert Budget(least_snr_db=20, most_snr_db=20).most_snr_db == 20


@pytest.mark.parametrize("value", [-5, 0, float("nan"), float("inf")])
def test_a_budget_that_allows_nothing_or_anything_is_refused(value):
    with pytest.raises(SettingError) as caught:
        Budget(latency_ms=value)
    assert str(caught.value) == (
        f"a budget's latency is {value:g} ms; a finite one above 0 is allowed"
    )
    with pytest.raises(SettingError) as caught:
        Budget(request_bytes=value)
    assert str(caught.value) == (
        f"a budget's size is {value} bytes; a finite one from 1 on is allowed"
    )
    assert Budget(latency_ms=0.5, request_bytes=1).request_bytes == 1


def test_the_options_bound_a_budgets_quality_and_leave_its_own_bounds_where_not_given():
    assert budget_of(100.0, None, None, None) == Budget(latency_ms=100)
    assert budget_of(None, 900, 8.0, None) == Budget(request_bytes=900, least_snr_db=8)
    assert budget_of(100.0, 900, 8.0, 12.0) == Budget(100, 900, 8, 12)
    assert budget_of(None, None, None, None) is None
    with pytest.raises(typer.BadParameter, match="--most-snr-db bounds a budget"):
        budget_of(None, None, None, 12.0)


def test_a_codec_without_a_quality_is_refused_with_a_budget_alone():
    sending = Sending("m", "127.0.0.1:9", "float16", 25.0, "fast", "server", "float32", "cpu", 60.0)
    with pytest.raises(typer.BadParameter, match="float16 has no quality that a budget"):
        sending.budget(100.0, None, None, None)
    assert sending.budget(None, None, None, None) is None


def test_help_says_what_a_generations_bounds_hold_for():
    (timeout,) = options.TokenTimeout.__metadata__
    (size,) = options.BytesBudget.__metadata__
    assert "each next one" in timeout.help
    assert "a text's prompt" in size.help
    assert inspect.signature(generate).parameters["timeout_s"].annotation is options.TokenTimeout


def test_help_says_the_bounds_that_a_budget_has_by_itself():
    for option, value in (
        (options.LeastSnrDb, Budget().least_snr_db),
        (options.MostSnrDb, Budget().most_snr_db),
    ):
        (details,) = option.__metadata__
        assert details.show_default == f"{value:g}"
