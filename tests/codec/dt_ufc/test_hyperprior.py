"""The network's parts: normalisation and probabilities."""

import pytest
import torch
from featurewire_codec.dt_ufc.hyperprior import (
    FactorisedDensity,
    Gdn,
    Hyperprior,
    gaussian_probability,
)


def test_gdn_is_its_formula():
    layer = Gdn(3)
    torch.manual_seed(0)
    layer.gamma.data = torch.rand(3, 3)
    x = torch.randn(2, 3, 4, 5)
    norm = torch.einsum("oi,nihw->nohw", layer.gamma**2, x**2) + 1 + 1e-6
    torch.testing.assert_close(layer(x), x / norm.sqrt())
    layer.inverse = True
    torch.testing.assert_close(layer(x), x * norm.sqrt())


@pytest.mark.parametrize("scale", [0.11, 1.0, 40.0])
def test_the_gaussians_probabilities_sum_to_one(scale):
    numbers = torch.arange(-400.0, 401.0, dtype=torch.float64)
    total = gaussian_probability(numbers, torch.tensor(scale, dtype=torch.float64)).sum()
    assert float(total) == pytest.approx(1.0, abs=1e-5)


def test_the_learned_densities_probabilities_sum_to_one():
    torch.manual_seed(0)
    density = FactorisedDensity(4).double()
    numbers = torch.arange(-300.0, 301.0, dtype=torch.float64).expand(1, 4, 1, -1)
    totals = density(numbers).sum(dim=(0, 2, 3))
    torch.testing.assert_close(totals, torch.ones(4, dtype=torch.float64), atol=1e-4, rtol=0)


def test_latents_are_a_sixteenth_and_hyper_latents_a_sixty_fourth():
    latents, hyper_latents = Hyperprior(8, 12, 4).latents(torch.rand(2, 1, 128, 192))
    assert latents.shape == (2, 12, 8, 12)
    assert hyper_latents.shape == (2, 4, 2, 3)


def test_training_adds_noise_and_inference_rounds():
    torch.manual_seed(0)
    network, plane = Hyperprior(8, 12, 4), torch.rand(1, 1, 64, 64)
    assert not torch.equal(network(plane).decoded, network(plane).decoded)
    network.eval()
    assert torch.equal(network(plane).decoded, network(plane).decoded)


def test_a_pass_in_bfloat16_is_float32s_to_within_its_rounding():
    torch.manual_seed(0)
    network, plane = Hyperprior(8, 12, 4).eval(), torch.rand(1, 1, 128, 128)
    exact, rounded = network(plane), network(plane, bfloat16=True)
    assert rounded.decoded.dtype == rounded.bits.dtype == torch.float32
    assert not torch.equal(rounded.decoded, exact.decoded)
    torch.testing.assert_close(rounded.decoded, exact.decoded, atol=0.01, rtol=0)
    torch.testing.assert_close(rounded.bits, exact.bits, atol=0, rtol=0.01)
