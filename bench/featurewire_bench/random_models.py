"""Models of sizes that are not bundled, with random weights: what a pipeline is timed with.

Nothing is measured here but bytes and times. Weights change neither; features of random weights
are spread more evenly than trained ones, so they take more bits.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

_PERIOD = 16_777_213  # a prime: no two rows of a matrix begin at one place of what is repeated


@dataclass(frozen=True)
class LlamaShape:
    """Llama-3-8B's, unless told otherwise; heads are 128 channels wide, four share keys.

    ``tied``: the embedding's matrix is that of the logits too, as in the small Llama 3.2.
    """

    blocks: int = 32
    channels: int = 4096
    words: int = 128256
    tied: bool = False


def random_llama(folder: Path, channels: int = 512, blocks: int = 8) -> Path:
    """A Llama that holds 2048 tokens, with a tokenizer of words."""
    from transformers import LlamaConfig, LlamaForCausalLM

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
    _save_words(path, 4096)
    return path


def large_llama(folder: Path, shape: LlamaShape) -> Path:
    """A Llama in bfloat16, written block by block: a shard for each and one for the rest."""
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = max(shape.channels // 128, 2)
    config = LlamaConfig(
        vocab_size=shape.words,
        hidden_size=shape.channels,
        intermediate_size=7 * shape.channels // 2,
        num_hidden_layers=shape.blocks,
        num_attention_heads=heads,
        num_key_value_heads=max(heads // 4, 1),
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=shape.tied,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )
    path = folder / "random-llama-large"
    config.save_pretrained(path)
    with torch.device("meta"):
        names = LlamaForCausalLM(config).state_dict()
    if shape.tied:
        del names["lm_head.weight"]
    numbers = (0.02 * torch.randn(_PERIOD, generator=torch.Generator().manual_seed(0))).bfloat16()
    shards = {"rest": [name for name in names if ".layers." not in name]}
    for number in range(shape.blocks):
        shards[f"block-{number}"] = [name for name in names if f".layers.{number}." in name]
    index: dict[str, str] = {}
    block: list[torch.Tensor] = []
    for shard, own in shards.items():
        if shard in ("rest", "block-0"):  # every block is the first one, under other names
            block = [_filled(names[name], numbers) for name in own]
        file = f"model-{shard}.safetensors"
        save_file(dict(zip(own, block, strict=True)), path / file)
        index |= dict.fromkeys(own, file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    _save_words(path, shape.words)
    return path


def _filled(like: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Random numbers of that shape; ones where it is a norm's."""
    if like.dim() == 1:
        return torch.ones(like.shape, dtype=numbers.dtype)
    repeats = -(-like.numel() // len(numbers))
    return numbers.repeat(repeats)[: like.numel()].reshape(like.shape).clone()


def _save_words(path: Path, words: int) -> None:
    """A tokenizer of the words w0, w1 ..."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({f"w{n}": n for n in range(words)}, "w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(path)


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


def prompt_of(tokens: int, words: int = 4096) -> str:
    """A text of so many tokens for `random_llama`, or one of so many words."""
    return " ".join(f"w{(7 * n) % words}" for n in range(tokens))
