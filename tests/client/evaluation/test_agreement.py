"""Outputs of real tails, against those on features as they are."""

import math
from dataclasses import replace

import pytest
import torch
from featurewire_client.evaluation.agreement import StateMetric, TokenMetric, make_agreement
from featurewire_models import Features, Outputs, load_head, load_processor, load_tail
from PIL import Image

torch.set_num_threads(1)


def picture() -> Image.Image:
    pixels = torch.randint(0, 255, (56, 56, 3), generator=torch.Generator().manual_seed(0))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


@pytest.mark.parametrize(
    ("model", "split", "task", "raw", "name", "perfect"),
    [
        ("tiny-llama3", "layers.6", "generation", "Words of a sentence.", "kl", 0.0),
        ("tiny-dinov2", "layers.3", "classification", picture(), "top1", 1.0),
        ("tiny-dinov2", "layers.3", "segmentation", picture(), "pixel_acc", 1.0),
        ("tiny-dinov2", "layers.3", "depth", picture(), "rmse", 0.0),
        ("tiny-sd3", "latents", "text-to-image", "a red circle", "psnr_db", math.inf),
    ],
)
def test_same_features_agree_in_full_and_worse_ones_ever_less(
    model, split, task, raw, name, perfect
):
    processor = load_processor(model, task)
    head, tail = load_head(model, split, task), load_tail(model, split, task)
    agreement = make_agreement(task, processor)
    noise = torch.Generator().manual_seed(2)
    found = []
    with torch.inference_mode():
        features = head(processor.inputs(raw))
        exact = agreement.answer(tail(features))
        for share in (0.0, 0.1, 10.0):
            tensors = {
                name: each + share * each.std() * torch.randn(each.shape, generator=noise)
                for name, each in features.tensors.items()
            }
            outputs = tail(Features(tensors, features.grids, features.uncoded))
            metric = agreement.metric()
            metric.add(agreement.answer(outputs), agreement.truth(exact))
            found.append(metric.values()[name])
    assert found[0] == pytest.approx(perfect, abs=1e-6)
    away = [abs(value - (perfect if math.isfinite(perfect) else 99)) for value in found[1:]]
    assert away == sorted(away)
    assert away[1] > 0


def test_embeddings_and_states_are_compared_by_angle():
    processor = replace(load_processor("tiny-llama3"), task="embedding")
    agreement = make_agreement("embedding", processor)
    metric, rows = agreement.metric(), torch.eye(3)[:, None]
    for ours, true in ((rows[0], rows[0]), (rows[1], rows[2])):
        metric.add(*(agreement.answer(Outputs(sentence_embedding=each)) for each in (ours, true)))
    assert metric.values()["cosine"] == pytest.approx(0.5)
    for task in ("features", "tokens"):
        agreement = make_agreement(task, processor)
        states = agreement.answer(Outputs(last_hidden_state=torch.ones(1, 4, 3)))
        metric = agreement.metric()
        metric.add(states, agreement.truth(-states))
        assert metric.values()["cosine"] == pytest.approx(-1.0)


def test_next_tokens_agree_where_the_same_is_likeliest_and_by_their_chances():
    metric = TokenMetric()
    true, ours = torch.tensor([[0.75, 0.25], [0.5, 0.5]]), torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    metric.add(5.0 + ours.log(), true.log())  # logits are chances up to a constant
    assert metric.values() == {
        "agree": 1 / 2,
        "kl": pytest.approx((0.75 * math.log(3) - 0.25 * math.log(3)) / 2),
    }
    long = torch.randn(600, 7, generator=torch.Generator().manual_seed(0))
    metric.add(long, long)
    assert metric.values()["agree"] == 601 / 602


def test_states_are_compared_token_by_token():
    metric = StateMetric()
    metric.add(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    metric.add(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert metric.values() == {
        "cosine": pytest.approx((1 + math.sqrt(0.5)) / 3, abs=1e-6),
        "least": 0.0,
    }


def test_without_an_input_there_are_no_figures():
    for kind in (TokenMetric, StateMetric):
        assert all(math.isnan(value) for value in kind().values().values())
