"""The bundled `tiny-llama3`: what `transformers` loads, how well it reads, what it learnt from."""

import re
from pathlib import Path

import featurewire_models
import pytest
import torch
from featurewire_models.training.prose import (
    Document,
    is_prose,
    paragraphs_of,
    prose_of_source,
    read_corpus,
    split_corpus,
    standard_library,
)
from featurewire_models.training.trigram import Trigram
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = Path(featurewire_models.__file__).parent / "bundled" / "tiny-llama3"
PASSAGE = (FOLDER / "samples" / "passage.txt").read_text(encoding="utf-8").strip()


def figure(name: str) -> float:
    """Read the figure in nats a token from the model card's row `name`."""
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    row = re.search(rf"(?m)^\| {re.escape(name)} \| \**([\d.]+)", card)
    assert row, f"the model card has no figure of {name}"
    return float(row[1])


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


def test_reads_a_held_out_passage_better_than_the_cards_trigram(model, tokenizer):
    ids = tokenizer(PASSAGE, return_tensors="pt").input_ids
    assert 300 <= ids.shape[1] <= 450
    with torch.inference_mode():
        loss = model(input_ids=ids, labels=ids).loss.item()
    assert loss < figure("trigram, this passage") - 0.3
    assert loss == pytest.approx(figure("tiny-llama3, this passage"), abs=0.01)


def test_the_card_claims_a_loss_well_below_the_trigrams():
    assert figure("tiny-llama3") < figure("trigram") - 0.2 < figure("unigram")


def test_is_a_llama_with_grouped_queries_tied_embeddings_and_half_the_bytes(model):
    config = model.config
    assert type(model).__name__ == "LlamaForCausalLM"
    assert config.num_key_value_heads < config.num_attention_heads
    assert model.lm_head.weight is model.model.embed_tokens.weight
    size = (FOLDER / "model.safetensors").stat().st_size
    assert 2 * model.num_parameters() < size < 7_000_000


def test_continues_the_sample_prompt_with_words(model, tokenizer):
    prompt = (FOLDER / "samples" / "prompt.txt").read_text(encoding="utf-8").strip()
    ids = tokenizer(prompt, return_tensors="pt")
    made = model.generate(**ids, max_new_tokens=24, do_sample=False)
    text = tokenizer.decode(made[0, ids.input_ids.shape[1] :], skip_special_tokens=True)
    assert len(re.findall(r"[a-z]{2,}", text)) >= 8


@pytest.mark.parametrize(
    "text",
    ["plain English.", "naïve café — 東京 🙂", " two  spaces\n\n\ttab ", "\x00\x7f", "a\r\nb"],
)
def test_tokens_come_back_as_the_same_text(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_samples_come_from_a_module_kept_from_training():
    source = (standard_library() / "logging" / "handlers.py").read_text(encoding="utf-8")
    assert Document("logging.handlers", ()).is_held_out
    words = set(" ".join(prose_of_source(source)).split())
    assert len(words & set(PASSAGE.split())) > 0.9 * len(set(PASSAGE.split()))


def test_reading_a_tree_twice_gives_the_same_documents():
    root = standard_library() / "json"
    documents = read_corpus(root)
    assert documents == read_corpus(root)
    assert documents[0].module == "__init__"
    paragraphs = [paragraph for document in documents for paragraph in document.paragraphs]
    assert len(paragraphs) == len(set(paragraphs)) > 50


def test_a_package_is_either_trained_on_or_held_out():
    names = [
        *"abcdefghijklmnopqrstuvwxyz",
        "logging",
        "email",
        "_pydecimal",
        "decimal",
        "io",
        "_io",
    ]
    documents = [
        Document(module, (module,)) for name in names for module in (name, f"{name}.a", f"{name}.b")
    ]
    train, held_out = split_corpus(documents)
    assert len(train) + len(held_out) == len(documents)
    train_names, held_out_names = (
        {document.module.split(".")[0] for document in part} for part in (train, held_out)
    )
    assert train_names
    assert held_out_names
    assert train_names.isdisjoint(held_out_names)
    assert Document("_pydecimal", ()).is_held_out == Document("decimal", ()).is_held_out


def test_source_yields_docstrings_comments_and_literals_in_order():
    source = '''"""The first sentence of this module is in its docstring.

    >>> code = "is left out of the text that this returns"
    """
# A comment of two lines that says why the
# following is done in the way it is.
x = "and a long literal such as a message, which is there to be read by the people who use it."
if x: y = [a for a in x]  # not this
'''
    assert list(prose_of_source(source)) == [
        "The first sentence of this module is in its docstring.",
        "A comment of two lines that says why the following is done in the way it is.",
        "and a long literal such as a message, which is there to be read by the people who use it.",
    ]


def test_items_become_paragraphs_without_markup():
    items = """- This is *the first* of the items,
      and it goes on.
    - See :class:`Other` for ``more`` of it."""
    assert list(paragraphs_of(items)) == [
        "This is the first of the items, and it goes on.",
        "See Other for more of it.",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "for i in range(10): print(i, end='')",
        "+-----+ | a | b | +-----+",
        "Methods:",
        "x = y[1] + z.a",
    ],
)
def test_code_and_tables_are_no_prose(text):
    assert not is_prose(text)


def test_a_trigram_that_has_seen_a_sequence_expects_it():
    tokens = [1, 2, 3, 4] * 50
    trigram = Trigram(tokens, vocabulary=8)
    seen = trigram.loss(tokens, range(2, len(tokens)))
    assert seen < 0.2 < trigram.loss([4, 3, 2, 1] * 10, range(2, 40))


def test_trigram_probabilities_sum_to_one():
    trigram = Trigram([1, 2, 3, 1, 2, 4, 1, 2, 3, 5, 0, 1, 3], vocabulary=6)
    for first, second in ((1, 2), (5, 5), (2, 3)):
        losses = [trigram.loss([first, second, token], [2]) for token in range(6)]
        assert sum(torch.tensor(losses, dtype=torch.float64).neg().exp()) == pytest.approx(1)
