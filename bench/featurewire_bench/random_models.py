"""Models of sizes that are not bundled, with random weights: what a pipeline is timed with.

Nothing is measured here but bytes and times. Weights change neither; features of random weights
are spread more evenly than trained ones, so they take more bits.
"""

from pathlib import Path

import torch


def random_llama(folder: Path) -> Path:
    """A Llama of eight blocks of 512 channels that holds 2048 tokens, with a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        eos_token_id=None,
    )
    path = folder / "random-llama"
    LlamaForCausalLM(config).save_pretrained(path)
    words = Tokenizer(models.WordLevel({f"w{n}": n for n in range(4096)}, "w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(path)
    return path


def random_dinov2(folder: Path) -> Path:
    """A DINOv2 of the giant's width, 1536 channels, with two blocks: 1370 tokens at 518 pixels."""
    from transformers import Dinov2Config, Dinov2ForImageClassification

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=1536,
        num_hidden_layers=2,
        num_attention_heads=24,
        mlp_ratio=2,
        image_size=518,
        patch_size=14,
        num_labels=10,
    )
    path = folder / "random-dinov2"
    Dinov2ForImageClassification(config).save_pretrained(path)
    return path


def prompt_of(tokens: int) -> str:
    """A text of so many tokens for `random_llama`."""
    return " ".join(f"w{(7 * n) % 4096}" for n in range(tokens))
