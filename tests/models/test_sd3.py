"""Stable Diffusion 3: tail(head(x)) is StableDiffusion3Pipeline's image for the same call."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from featurewire_models import (
    InputError,
    describe,
    load_head,
    load_model,
    load_processor,
    load_tail,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
)

SIDE, TOKENS = 8, 24  # latents a side, of which the VAE makes 4 pixels each; tokens of a prompt
PROMPTS = ["a red seven", "two blue ones"]


def clip(folder, hidden: int) -> tuple[CLIPTextModelWithProjection, CLIPTokenizer]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=TOKENS)
    config = CLIPTextConfig(
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=len(tokens),
        max_position_embeddings=TOKENS,
        projection_dim=hidden,
        bos_token_id=len(tokens) - 2,
        eos_token_id=len(tokens) - 1,
        pad_token_id=len(tokens) - 1,
    )
    return CLIPTextModelWithProjection(config), tokenizer


# of Stable Diffusion 3.5 medium: norms of queries and keys, attention twice in the first blocks
NEWER = {"qk_norm": "rms_norm", "dual_attention_layers": (0,)}


@pytest.fixture(scope="module", params=[{}, NEWER], ids=["sd3", "sd3.5"])
def saved(request, tmp_path_factory):
    """The pipeline itself, without a third text encoder, and its folder."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("sd3")
    text_encoder, tokenizer = clip(folder / "words", 8)
    text_encoder_2, tokenizer_2 = clip(folder / "words_2", 16)
    transformer = SD3Transformer2DModel(
        sample_size=SIDE,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=24,
        pos_embed_max_size=12,
        **request.param,
    )
    vae = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[8, 8, 8],
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
        scaling_factor=1.5,
        shift_factor=0.06,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipeline.save_pretrained(folder / "model")
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        folder / "model", text_encoder_3=None, tokenizer_3=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, folder / "model"


def drawn(pipeline, prompts, seeds, steps, guidance) -> torch.Tensor:
    images = pipeline(
        prompt=prompts,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        num_inference_steps=steps,
        guidance_scale=guidance,
    ).images
    return torch.from_numpy(np.stack([np.asarray(image) for image in images]))


@pytest.mark.parametrize("split", ["latents", "prompt"])
@pytest.mark.parametrize("guidance", [1.0, 4.3])
@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS])
def test_halves_equal_the_pipeline(saved, split, guidance, prompts):
    pipeline, folder = saved
    inputs = load_processor(folder).inputs(prompts, seed=7, steps=3, guidance=guidance)
    expected = drawn(pipeline, prompts, inputs["seed"].tolist(), 3, guidance)
    features = load_head(folder, split)(inputs)
    images = load_tail(folder, split)(features).images
    assert images.dtype == torch.uint8
    assert images.shape == (len(prompts), 4 * SIDE, 4 * SIDE, 3)
    assert torch.equal(images, expected)
    if split == "latents":
        assert features.tensors["latents"].shape == (len(prompts), SIDE * SIDE, 16)
        assert features.grids == {"latents": (SIDE, SIDE)}
        assert not features.uncoded
    else:
        guided = ["clip", "negative_clip"] if guidance > 1 else ["clip"]
        assert sorted(features.tensors) == guided
        assert features.tensors["clip"].shape == (len(prompts), TOKENS, 8 + 16)


def test_whole_model_and_its_views_equal_the_pipeline(saved):
    pipeline, folder = saved
    whole = load_model(folder)
    inputs = load_processor(folder).inputs("a red seven", seed=3, steps=2, guidance=2.0)
    expected = drawn(pipeline, ["a red seven"], [3], 2, 2.0)
    assert torch.equal(whole(inputs).images, expected)
    for split in describe(folder).splits:
        assert torch.equal(whole.tail(split)(whole.head(split)(inputs)).images, expected)


def test_a_seed_that_no_int64_holds_is_refused(saved):
    processor = load_processor(saved[1])
    assert processor.inputs(["a", "b"], seed=2**63 - 2)["seed"].tolist()[1] == 2**63 - 1
    for seed in (2**63 - 1, 2**70, -(2**63) - 1):
        with pytest.raises(InputError, match=f"the seed is {seed}; -9223372036854775808 to"):
            processor.inputs(["a", "b"], seed=seed)


def test_latents_are_the_pipelines_own_bit_for_bit(saved):
    pipeline, folder = saved
    inputs = load_processor(folder).inputs("a red seven", seed=3, steps=2, guidance=2.0)
    expected = pipeline(
        prompt="a red seven",
        generator=torch.Generator().manual_seed(3),
        num_inference_steps=2,
        guidance_scale=2.0,
        output_type="latent",
    ).images
    latents = load_head(folder, "latents")(inputs).tensors["latents"]
    assert torch.equal(latents.transpose(1, 2).reshape(expected.shape), expected)


def test_a_third_text_encoder_is_used_where_there_is_one(saved, tmp_path):
    pipeline, folder = saved
    pipeline.save_pretrained(tmp_path)
    sizes = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 2}
    T5EncoderModel(T5Config(**sizes, num_heads=2)).save_pretrained(tmp_path / "text_encoder_3")
    t5 = T5EncoderModel.from_pretrained(tmp_path / "text_encoder_3").eval()
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["text_encoder_3"] = ["transformers", "T5EncoderModel"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    inputs = load_processor(folder).inputs("a red seven", seed=3, steps=2, guidance=1.0)
    inputs["input_ids_3"] = torch.randint(0, 64, (1, 256))
    features = load_head(tmp_path, "prompt")(inputs)
    with torch.no_grad():
        assert torch.equal(features.tensors["t5"], t5(inputs["input_ids_3"])[0])
    wide = torch.nn.functional.pad(features.tensors["clip"], (0, 8))
    image = pipeline(
        prompt_embeds=torch.cat([wide, features.tensors["t5"]], dim=1),
        pooled_prompt_embeds=features.uncoded["pooled"],
        generator=torch.Generator().manual_seed(3),
        num_inference_steps=2,
        guidance_scale=1.0,
    ).images[0]
    images = load_tail(tmp_path, "prompt")(features).images
    assert torch.equal(images[0], torch.from_numpy(np.array(image)))


def test_settings_out_of_range_are_refused(saved):
    head = load_head(saved[1], "prompt")
    inputs = load_processor(saved[1]).inputs("a red seven", seed=3, steps=2, guidance=2.0)
    with pytest.raises(InputError, match="from 1 to 1000"):
        head({**inputs, "num_inference_steps": torch.tensor(0)})
    with pytest.raises(InputError, match="lack seed"):
        head({name: tensor for name, tensor in inputs.items() if name != "seed"})
    with pytest.raises(InputError, match="finite"):
        head({**inputs, "guidance_scale": torch.tensor(float("nan"))})
