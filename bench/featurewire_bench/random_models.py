"""Models of sizes that are not bundled, with random weights: what a pipeline is timed with.

Nothing is measured here but bytes and times. Weights change neither; features of random weights
are spread more evenly than trained ones, so they take more bits.
"""

from pathlib import Path

import torch


def random_llama(folder: Path, channels: int = 512, blocks: int = 8) -> Path:
    """A Llama that holds 2048 tokens, with a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=channels,
        intermediate_size=3 * channels,
        num_hidden_layers=blocks,
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


def random_dinov2(folder: Path, channels: int, blocks: int, pixels: int) -> Path:
    """A DINOv2 classifier: channels, blocks and image side; patches of 14 pixels, heads of 64."""
    from transformers import Dinov2Config, Dinov2ForImageClassification

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=channels,
        num_hidden_layers=blocks,
        num_attention_heads=channels // 64,
        mlp_ratio=2,
        image_size=pixels,
        patch_size=14,
        num_labels=10,
    )
    path = folder / f"random-dinov2-{channels}"
    Dinov2ForImageClassification(config).save_pretrained(path)
    return path


def prompt_of(tokens: int) -> str:
    """A text of so many tokens for `random_llama`."""
    return " ".join(f"w{(7 * n) % 4096}" for n in range(tokens))
