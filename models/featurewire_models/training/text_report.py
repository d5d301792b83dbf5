"""In: a language model and held-out rows of tokens. Out: its loss, in nats and in bits a byte."""

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaForCausalLM

EVALUATION_ROWS = 8  # in one forward pass


def loss_of(model: LlamaForCausalLM, rows: Tensor) -> Tensor:
    """Mean next-token loss in nats of rows [n, context]."""
    logits = model(input_ids=rows, use_cache=False).logits[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten())


@torch.no_grad()
def evaluate(model: LlamaForCausalLM, rows: Tensor) -> float:
    """Mean next-token loss in nats over held-out rows [n, context], without dropout."""
    model.eval()
    losses = [
        loss_of(model, part).item() * len(part) for part in torch.split(rows, EVALUATION_ROWS)
    ]
    model.train()
    return sum(losses) / len(rows)


def report(folder: Path, held_out: Tensor, bytes_per_token: float) -> None:
    """Print the figures of the saved file over held-out rows [n, context]."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    print_loss("model", evaluate(model, held_out), bytes_per_token)
    size = (folder / "model.safetensors").stat().st_size
    print(f"{model.num_parameters():,} parameters, {size:,} bytes of weights")


def print_loss(name: str, nats: float, bytes_per_token: float) -> None:
    """Print a loss in nats a token and in bits a byte."""
    bits = nats / math.log(2) / bytes_per_token
    print(f"held-out loss, {name}: {nats:.4f} nats a token, {bits:.4f} bits a byte", flush=True)
