"""In: the prose of Python's standard library. Out: `tiny-llama3`, a folder like one from a hub.

The folder holds a byte-level BPE tokeniser and a `LlamaForCausalLM` in 16-bit safetensors, both
trained from nothing on one processor thread. A trigram model over the same tokens is the figure
to beat; all printed figures of the result are measured on the saved file.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from featurewire_models.training.muon import Muon
from featurewire_models.training.prose import read_corpus, split_corpus
from featurewire_models.training.text_model import Shape, add_dropout, build_model, train_tokenizer
from featurewire_models.training.text_report import evaluate, loss_of, measure
from featurewire_models.training.text_rows import batches, cut_rows, encode


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result, the text apart."""

    shape: Shape = field(default_factory=Shape)
    steps: int = 5300
    batch_tokens: int = 1024
    short_context: int = 128  # tokens; cheap rows first, rows of the full context at the end
    short_part: float = 0.6  # of the training
    warmup_part: float = 0.03
    last_learning_rate: float = 0.03  # of the highest, where the cosine ends
    matrix_learning_rate: float = 0.02  # Muon
    other_learning_rate: float = 5e-3  # AdamW: embedding and norms
    momentum: float = 0.95
    weight_decay: float = 0.1
    largest_gradient: float = 1.0  # norm
    dropout: float = 0.05
    evaluate_every: int = 400  # steps
    patience: int = 4  # evaluations without a better held-out loss before stopping
    seed: int = 2024


def learning_rate_factor(progress: float, recipe: Recipe) -> float:
    """Linear warm-up and a cosine, for `progress` from 0 to 1."""
    low = recipe.last_learning_rate
    cosine = low + (1 - low) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
    return min(1.0, (progress + 1e-3) / recipe.warmup_part) * cosine


def optimizers(
    model: LlamaForCausalLM, recipe: Recipe
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Return (optimiser, highest learning rate): Muon for the blocks' matrices, AdamW else."""
    blocks = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is block for block in blocks)]
    rate, other_rate = recipe.matrix_learning_rate, recipe.other_learning_rate
    muon = Muon(blocks, rate, recipe.momentum, recipe.weight_decay)
    adamw = torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.95), weight_decay=0.0)
    return [(muon, rate), (adamw, other_rate)]


def train(
    model: LlamaForCausalLM,
    tokens: Tensor,
    held_out: Tensor,
    recipe: Recipe,
    minutes: float | None,
    checkpoint: Path,
) -> None:
    """Train `model` on `tokens`, leaving the weights of the best loss on the tokens `held_out`.

    The schedule ends after `recipe.steps` steps or, where `minutes` is given, after that time;
    where `checkpoint` exists it goes on from there.
    """
    bos = model.config.bos_token_id
    pairs = optimizers(model, recipe)
    step, spent_s, best_loss, best_context, misses = 0, 0.0, math.inf, 0, 0
    best = model.state_dict()
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        step, spent_s, best_loss, best_context, misses = saved["counters"]
        best = saved["best"]
        model.load_state_dict(saved["model"])
        for (optimizer, _), state in zip(pairs, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        torch.set_rng_state(saved["rng"])
        print(f"resumed at step {step}", flush=True)
    # A stream of its own for the steps that follow, so that resuming repeats no rows.
    streams = {
        context: batches(tokens, context, recipe.batch_tokens // context, bos, recipe.seed + step)
        for context in (recipe.short_context, recipe.shape.context)
    }
    began = time.monotonic() - spent_s
    model.train()
    while True:
        spent_s = time.monotonic() - began
        progress = spent_s / (60 * minutes) if minutes else step / recipe.steps
        context = recipe.short_context if progress < recipe.short_part else recipe.shape.context
        is_last = progress >= 1
        if step and (is_last or step % recipe.evaluate_every == 0):
            held_out_loss = evaluate(model, cut_rows(held_out, context, bos))
            print(f"step {step} ({spent_s:.0f} s): held-out loss {held_out_loss:.3f}", flush=True)
            # Losses compare within one context: a model knows no positions it has not met.
            misses = 0 if held_out_loss < best_loss or context != best_context else misses + 1
            if not misses:
                best_loss, best_context = held_out_loss, context
                best = {name: weight.clone() for name, weight in model.state_dict().items()}
            if is_last or misses >= recipe.patience:
                break
            state = {
                "counters": (step, spent_s, best_loss, best_context, misses),
                "best": best,
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer, _ in pairs],
                "rng": torch.get_rng_state(),
            }
            torch.save(state, checkpoint)
        loss = loss_of(model, next(streams[context]))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.largest_gradient)
        for optimizer, highest in pairs:
            for group in optimizer.param_groups:
                group["lr"] = highest * learning_rate_factor(progress, recipe)
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        if step % 50 == 0:
            print(f"step {step} ({100 * progress:.0f} %): loss {loss.item():.3f}", flush=True)
    model.load_state_dict(best)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model in float16 and the tokeniser, as `from_pretrained` reads them."""
    weights = {name: weight.half() for name, weight in model.state_dict().items()}
    half = LlamaForCausalLM(model.config).half()  # a copy, without the hooks of the training
    half.load_state_dict(weights)
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, save and measure `tiny-llama3`, or only measure it."""
    parser = argparse.ArgumentParser(
        prog="python -m featurewire_models.training.text",
        description="Train the bundled tiny-llama3 on the prose of Python's standard library.",
        epilog="Interrupt it whenever you like: the same command resumes from the checkpoint.",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    parser.add_argument(
        "--minutes", type=float, help=f"end after so long, not after {Recipe.steps} steps"
    )
    parser.add_argument("--measure", action="store_true", help="measure what is there, no training")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default: 1)")
    parser.add_argument("--seed", type=int, default=Recipe.seed, help="of weights and order")
    options = parser.parse_args(arguments)

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    recipe = replace(Recipe(), seed=options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    train_documents, held_out_documents = split_corpus(read_corpus())
    if not options.measure:
        tokenizer = train_tokenizer((document.text for document in train_documents), recipe.shape)
        model = build_model(recipe.shape, tokenizer)
        add_dropout(model, recipe.dropout)
        tokens = encode(train_documents, tokenizer)
        held_out = encode(held_out_documents, tokenizer)
        checkpoint = options.out.with_name(options.out.name + ".checkpoint.pt")
        train(model, tokens, held_out, recipe, options.minutes, checkpoint)
        save(model, tokenizer, options.out)
        checkpoint.unlink(missing_ok=True)
    measure(options.out, train_documents, held_out_documents)


if __name__ == "__main__":
    main()
