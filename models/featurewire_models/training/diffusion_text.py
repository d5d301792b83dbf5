"""Captions in; two CLIP tokenizers and text encoders, and their states as SD3 joins them, out."""

from __future__ import annotations

import itertools

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from featurewire_models.training.digits import COLOURS, NAMES, caption

MAX_TOKENS = 16
WIDTH = 64  # of each encoder; the transformer sees both side by side
START, END = "<|startoftext|>", "<|endoftext|>"


def all_captions() -> list[str]:
    """Every caption a captioned scene can have."""
    pairs = itertools.permutations(COLOURS, 2)
    return [
        caption(label, colour, ground) for colour, ground in pairs for label in range(len(NAMES))
    ]


def build_tokenizer() -> CLIPTokenizer:
    """A byte-pair tokenizer in which every word of the captions is one token.

    Words it has never seen fall apart into letters; other signs become the end token.
    """
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'-"
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.Whitespace()
    # every letter alone and at a word's end belongs to the vocabulary
    corpus = [*all_captions(), *(f"{sign} {sign}{sign}" for sign in letters)]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        min_frequency=2,
        end_of_word_suffix="</w>",
        initial_alphabet=list(letters),
        show_progress=False,
    )
    learner.train_from_iterator(corpus, trainer)
    vocabulary, merges = _files(learner)
    for special in (START, END):
        vocabulary[special] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_TOKENS)


def build_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """An untrained text encoder of two layers."""
    encoder = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    # SD3 takes states that no norm has touched; CLIP's usual 0.02 would make them too faint
    torch.nn.init.normal_(encoder.text_model.embeddings.token_embedding.weight, std=0.5)
    return encoder


def token_ids(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token numbers, padded: int64 [n, 16]."""
    encoded = tokenizer(
        captions, padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
    )
    ids: torch.Tensor = encoded.input_ids
    return ids


def encode_ids(
    encoders: tuple[CLIPTextModelWithProjection, CLIPTextModelWithProjection], ids: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """States [n, 16, 128] and pooled vectors [n, 128], as the pipeline makes them of both."""
    outputs = [encoder(ids, output_hidden_states=True) for encoder in encoders]
    states = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return states, torch.cat([output.text_embeds for output in outputs], dim=-1)


def _files(learner: Tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The learnt vocabulary, in order, and the merges."""
    import json

    model = json.loads(learner.to_str())["model"]
    ordered = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return {token: at for at, token in enumerate(ordered)}, [tuple(m) for m in model["merges"]]
