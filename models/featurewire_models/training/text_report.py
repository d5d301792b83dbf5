"""In: a language model and held-out rows of tokens. Out: its loss, in nats and in bits a byte."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from featurewire_models.training.prose import Document
from featurewire_models.training.text_rows import cut_rows, encode
from featurewire_models.training.trigram import Trigram, unigram_loss

EVALUATION_ROWS = 8  # in one forward pass
IGNORED = -100  # a target that has no loss


def loss_of(model: LlamaForCausalLM, rows: Tensor) -> Tensor:
    """Mean next-token loss in nats of rows [n, context]."""
    logits = model(input_ids=rows, use_cache=False).logits
    targets = functional.pad(rows[:, 1:], (0, 1), value=IGNORED)  # cheaper than slicing the logits
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


@torch.no_grad()
def evaluate(model: LlamaForCausalLM, rows: Tensor) -> float:
    """Mean next-token loss in nats over held-out rows [n, context], without dropout."""
    model.eval()
    losses = [
        loss_of(model, part).item() * len(part) for part in torch.split(rows, EVALUATION_ROWS)
    ]
    model.train()
    return sum(losses) / len(rows)


def measure(folder: Path, train: Sequence[Document], held_out: Sequence[Document]) -> None:
    """Print the sizes of the text, and the losses of the saved model and of two simpler ones.

    Where `folder` has a `samples/passage.txt`, its losses follow.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    size = (folder / "model.safetensors").stat().st_size
    print(f"{model.num_parameters():,} parameters, {size:,} bytes of weights")
    for name, documents in (("train", train), ("held out", held_out)):
        bytes_of_text = sum(len(document.text.encode()) for document in documents)
        count = len(encode(documents, tokenizer))
        print(f"{name}: {len(documents)} modules, {bytes_of_text:,} bytes, {count:,} tokens")

    context, vocabulary = model.config.max_position_embeddings, model.config.vocab_size
    seen = encode(train, tokenizer).tolist()
    trigram = Trigram(seen, vocabulary)
    tokens = encode(held_out, tokenizer)
    rows = cut_rows(tokens, context, tokenizer.bos_token_id)
    scored = tokens[: rows[:, 1:].numel()].tolist()  # what the rows hold
    bytes_per_token = bytes_of_text / len(tokens)
    print_loss("unigram", unigram_loss(seen, scored, vocabulary), bytes_per_token)
    print_loss("trigram", trigram.loss(scored, range(2, len(scored))), bytes_per_token)
    print_loss("model", evaluate(model, rows), bytes_per_token)

    passage = folder / "samples" / "passage.txt"
    if passage.exists():
        text = passage.read_text(encoding="utf-8").strip()
        ids = tokenizer(text, return_tensors="pt").input_ids
        bytes_per_token = len(text.encode()) / (ids.shape[1] - 1)
        print(f"{passage.name}: {ids.shape[1]} tokens")
        # A mark before the first token is the trigram's context for it.
        marked = [tokenizer.eos_token_id, *ids[0].tolist()]
        loss = trigram.loss(marked, range(2, len(marked)))
        print_loss("trigram, this passage", loss, bytes_per_token)
        print_loss("model, this passage", evaluate(model, ids), bytes_per_token)


def print_loss(name: str, nats: float, bytes_per_token: float) -> None:
    """Print a loss in nats a token and in bits a byte."""
    bits = nats / math.log(2) / bytes_per_token
    print(f"held-out loss, {name}: {nats:.4f} nats a token, {bits:.4f} bits a byte", flush=True)
