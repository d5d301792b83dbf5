"""A generation over the wire is the unsplit model's own, step by step with caches on both sides."""

import asyncio
import time

import pytest
import torch
from featurewire.v1 import featurewire_pb2 as pb
from featurewire_bench.relay import Relay
from featurewire_client import DeadlineError, SessionError, SettingError, SplitClient
from featurewire_codec import FeatureCodec
from featurewire_models import ModelError, TaskError, load_model
from featurewire_server import answers as server_answers
from featurewire_server.sampling import next_token
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = [f"w{number}" for number in range(97)]


@pytest.fixture(scope="module")
def speaking(llama):
    """The random Llama with a tokeniser of one token a word."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(llama)
    return llama


def unsplit(folder, prompt: list[int], count: int, sampling: pb.Sampling) -> list[str]:
    model = load_model(folder)
    ids, cache, words = torch.tensor([prompt]), model.new_cache(), []
    for step in range(count):
        with torch.inference_mode():
            logits = model({"input_ids": ids}, cache=cache).logits
        token = next_token(logits[0, -1], sampling, len(prompt) + step)
        ids = torch.tensor([[token]])
        words.append(WORDS[token])
    return words


SETTINGS = {
    "greedy": {},
    "drawn": {"temperature": 1.5, "seed": 7},
    "among the likeliest": {"temperature": 1.0, "top_k": 5, "top_p": 0.9, "seed": 3},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("split", ["layers.0", "layers.2", "layers.4"])
async def test_every_token_is_the_unsplit_models(speaking, serve, split, name):
    async with serve(speaking) as server:
        address, model = server.address, str(speaking)
        async with SplitClient(address, model, split=split, codec="float32") as client:
            pieces = client.generate("w5 w6 w7", max_tokens=12, **SETTINGS[name])
            text = "".join([piece async for piece in pieces])
    assert text.split() == unsplit(speaking, [5, 6, 7], 12, pb.Sampling(**SETTINGS[name]))


async def test_a_string_is_one_stop_string_and_a_seed_out_of_range_is_said(speaking, serve):
    async with (
        serve(speaking) as server,
        SplitClient(server.address, str(speaking)) as client,
    ):
        words = "".join([piece async for piece in client.generate("w5", max_tokens=12)]).split()
        stop = next(word for word in words[2:] if word != words[0])
        text = "".join([piece async for piece in client.generate("w5", max_tokens=12, stop=stop)])
        assert text.split() == words[: words.index(stop)]
        assert client.finish_reason == "stop"
        for seed in (-1, 2**63):
            with pytest.raises(SettingError, match=f"seed is {seed}; 0 to 9223372036854775807"):
                await anext(client.generate("w5", seed=seed))
        drawn = client.generate("w5", max_tokens=3, temperature=1.0, seed=2**63 - 1)
        assert len([piece async for piece in drawn]) == 3


async def test_a_second_generation_starts_from_an_empty_cache(speaking, serve):
    async with (
        serve(speaking) as server,
        SplitClient(server.address, str(speaking)) as client,
    ):
        first = [piece async for piece in client.generate("w5 w6", max_tokens=6)]
        async for _ in client.generate("w9 w8 w7 w6", max_tokens=3, temperature=2.0):
            pass
        assert [piece async for piece in client.generate("w5 w6", max_tokens=6)] == first


async def test_a_generation_left_early_leaves_the_session_usable(speaking, serve):
    async with (
        serve(speaking) as server,
        SplitClient(server.address, str(speaking)) as client,
    ):
        pieces = client.generate("w5", max_tokens=30)
        await anext(pieces)
        await pieces.aclose()
        assert client.last_stats.tokens == 1
        assert len([piece async for piece in client.generate("w5", max_tokens=4)]) == 4


async def test_the_account_of_a_generation_is_the_sum_of_its_steps(speaking, serve):
    async with (
        serve(speaking) as server,
        SplitClient(server.address, str(speaking), codec="float16") as client,
    ):
        async for _ in client.generate("w5 w6 w7", max_tokens=5):
            pass
        stats = client.last_stats
    assert stats.tokens == 5
    assert stats.features == (3 + 4) * 32
    assert 0 < stats.first_token_ms < stats.total_ms


async def test_the_context_bounds_a_generation(speaking, serve):
    async with (
        serve(speaking) as server,
        SplitClient(server.address, str(speaking)) as client,
    ):
        prompt = " ".join(WORDS[:60])
        assert len([piece async for piece in client.generate(prompt, max_tokens=50)]) <= 5
        assert client.last_stats.tokens == 5
        assert client.finish_reason == "context"
        with pytest.raises(ModelError, match="context is 64"):
            await anext(client.generate(" ".join(WORDS), max_tokens=1))


async def test_a_model_that_is_not_causal_generates_nothing(tmp_path, serve):
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertModel(config).save_pretrained(tmp_path / "bert")
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(30)}, "w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(
        tmp_path / "bert"
    )
    async with (
        serve(tmp_path / "bert") as server,
        SplitClient(server.address, str(tmp_path / "bert")) as client,
    ):
        with pytest.raises(TaskError, match="generates no text; its tasks are embedding"):
            await anext(client.generate("w1"))


async def test_a_step_costs_few_bytes_beyond_its_bitstream(speaking, serve):
    async with (
        serve(speaking) as server,
        SplitClient(server.address, str(speaking), codec="float16") as client,
    ):
        async for _ in client.generate("w5", max_tokens=9):
            pass
        stats = client.last_stats
    assert stats.sent_bytes - stats.float16_bytes < 9 * 15


async def test_a_steps_bitstream_repeats_nothing_that_the_session_has_agreed_on(speaking, serve):
    async with (
        serve(speaking) as server,
        SplitClient(server.address, str(speaking)) as client,
    ):
        async for _ in client.generate("w5", max_tokens=9):
            pass
        stats = client.last_stats
    file = FeatureCodec().encode(torch.randn(1, 32))
    session = FeatureCodec(framing="session").encode(torch.randn(1, 32))
    assert len(session) < len(file) - 10
    assert stats.sent_bytes / 9 < len(file)


async def test_a_generation_with_the_published_method_gives_its_tokens(speaking, serve):
    async with (
        serve(speaking) as server,
        SplitClient(server.address, str(speaking), codec="dt-ufc", snr_db=10) as client,
    ):
        assert len([piece async for piece in client.generate("w5 w6 w7", max_tokens=5)]) == 5
        assert client.last_stats.tokens == 5


async def test_a_stop_string_ends_a_text_where_only_the_client_has_a_tokenizer(
    speaking, serve, tmp_path
):
    silent = tmp_path / speaking.name
    silent.mkdir()
    for name in ("config.json", "model.safetensors"):
        (silent / name).write_bytes((speaking / name).read_bytes())
    async with serve(silent) as server, SplitClient(server.address, str(speaking)) as client:
        whole = "".join([piece async for piece in client.generate("w5", max_tokens=20)])
        assert client.finish_reason == "length"
        stop = " ".join(whole.split()[4:6])
        for _ in range(2):
            pieces = client.generate("w5", max_tokens=20, stop=stop)
            assert "".join([piece async for piece in pieces]) == whole.split(stop)[0]
            assert client.finish_reason == "stop"
            stats = client.last_stats
            assert 4 < stats.tokens < 20
            assert stats.received_bytes > 5 * stats.tokens
        for _ in range(100):
            if not server.reserved_cache_bytes:
                break
            await asyncio.sleep(0.02)
        assert server.reserved_cache_bytes == 0


@pytest.mark.parametrize("ends", ["is left", "takes too long"])
async def test_the_account_of_a_text_that_is_given_up_has_what_came_of_it(
    speaking, serve, monkeypatch, ends
):
    async with (
        serve(speaking) as server,
        SplitClient(server.address, str(speaking), timeout_s=3.0) as client,
    ):
        _ = [piece async for piece in client.generate("w5", max_tokens=4)]
        whole = client.last_stats.received_bytes
        pieces = client.generate("w5", max_tokens=40)
        for _ in range(4):
            await anext(pieces)
        if ends == "is left":
            await pieces.aclose()
        else:
            run = server_answers.run_steps

            def slow(*steps):
                time.sleep(4)
                return run(*steps)

            monkeypatch.setattr(server_answers, "run_steps", slow)
            with pytest.raises(DeadlineError):
                await anext(pieces)
        assert whole / 2 < client.last_stats.received_bytes < whole


async def test_a_text_whose_last_token_is_lost_with_its_account_gets_both_again(
    speaking, serve, monkeypatch
):
    account = server_answers.account_of

    def cut(request):
        monkeypatch.setattr(server_answers, "account_of", account)
        link.disconnect()
        return account(request)

    async with serve(speaking) as server:
        with Relay(server.address, rtt_ms=2) as link:
            async with SplitClient(link.address, str(speaking)) as client:
                whole = "".join([piece async for piece in client.generate("w5", max_tokens=9)])
                monkeypatch.setattr(server_answers, "account_of", cut)
                text = "".join([piece async for piece in client.generate("w5", max_tokens=9)])
                assert (text, client.finish_reason) == (whole, "length")
                stats = client.last_stats
                assert (stats.tokens, stats.replays) == (9, 1)
                assert stats.tail_ms > 0
                text = "".join([piece async for piece in client.generate("w5", max_tokens=9)])
                assert (text, client.last_stats.replays) == (whole, 0)


async def test_a_server_that_fails_at_the_last_token_is_said_and_the_next_text_goes_on(
    speaking, serve, monkeypatch
):
    account = server_answers.account_of

    def fail(request):
        monkeypatch.setattr(server_answers, "account_of", account)
        raise MemoryError

    async with serve(speaking) as server, SplitClient(server.address, str(speaking)) as client:
        whole = "".join([piece async for piece in client.generate("w5", max_tokens=9)])
        monkeypatch.setattr(server_answers, "account_of", fail)
        with pytest.raises(SessionError, match="INTERNAL"):
            _ = [piece async for piece in client.generate("w5", max_tokens=9)]
        assert client.last_stats.tokens == 8
        text = "".join([piece async for piece in client.generate("w5", max_tokens=9)])
        assert (text, client.last_stats.replays) == (whole, 0)
