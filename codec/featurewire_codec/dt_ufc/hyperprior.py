"""The network: a scale hyperprior on planes of one channel.

Four 5 x 5 convolutions of stride 2 with GDN between them take a plane to latents at 1/16, and their
mirror image takes them back (Balle et al., arXiv 1802.01436; GDN: arXiv 1511.06281). Hyper-latents
at 1/64 carry the scale of every latent, which is coded as a zero-mean Gaussian of that scale. The
hyper-latents are coded with one learned density a channel (appendix 6.1 of the same paper).
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

CHANNELS = 48  # of the inner layers: 0.75 numbers for each pixel at 1/8, as the latents at 1/16
LATENTS = 192
HYPER_LATENTS = 32
MIN_SCALE = 0.11  # below it a Gaussian's central unit interval holds nearly everything
MAX_SCALE = 256.0
HYPER_GAIN = 10.0
LEAK = 0.1  # published as plain ReLU, which dies here at a high learning rate
_LEAST_PROBABILITY = 1e-9


class Gdn(nn.Module):
    """Generalised divisive normalisation, y = x / sqrt(beta + gamma x^2) across channels."""

    def __init__(self, channels: int, inverse: bool = False) -> None:
        """`inverse` multiplies by the root instead."""
        super().__init__()
        self.inverse = inverse
        # Squares of the parameters keep beta and gamma positive.
        self.beta = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(0.3 * torch.eye(channels) + 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Float [n, channels, height, width], the same out."""
        weight = (self.gamma**2)[:, :, None, None]
        norm = nn.functional.conv2d(x * x, weight, self.beta**2 + 1e-6)
        return x * (norm.sqrt() if self.inverse else norm.rsqrt())


class FactorisedDensity(nn.Module):
    """One learned density for each channel: its cumulative is a small monotone network."""

    def __init__(self, channels: int) -> None:
        """Widths 1-3-3-3-1 with gated nonlinearities, as published."""
        super().__init__()
        widths = (1, 3, 3, 3, 1)
        scale = 10.0 ** (1 / (len(widths) - 1))
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.gates = nn.ParameterList()
        for wide, out in pairwise(widths):
            start = math.log(math.expm1(1 / scale / out))
            self.matrices.append(nn.Parameter(torch.full((channels, out, wide), start)))
            self.biases.append(nn.Parameter(torch.rand(channels, out, 1) - 0.5))
            self.gates.append(nn.Parameter(torch.zeros(channels, out, 1)))

    def forward(self, z: Tensor) -> Tensor:
        """Probabilities of unit intervals about z, float [n, channels, height, width]."""
        flat = z.transpose(0, 1).reshape(z.shape[1], 1, -1)
        lower, upper = self._logits(flat - 0.5), self._logits(flat + 0.5)
        # Far out in the upper tail both sigmoids round to one: use the lower tail's mirror image.
        sign = -torch.sign(lower + upper).detach()
        probability = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        n, channels, height, width = z.shape
        shaped = probability.reshape(channels, n, height, width).transpose(0, 1)
        return shaped.clamp(min=_LEAST_PROBABILITY)

    def _logits(self, x: Tensor) -> Tensor:
        for matrix, bias, gate in zip(self.matrices, self.biases, self.gates, strict=True):
            x = nn.functional.softplus(matrix) @ x + bias
            if matrix.shape[1] > 1:
                x = x + torch.tanh(gate) * torch.tanh(x)
        return x


class Pass(NamedTuple):
    """One pass of training: the plane as decoded, and the bits of all its numbers."""

    decoded: Tensor
    bits: Tensor


class Hyperprior(nn.Module):
    """The whole network. Planes are float [n, 1, height, width] in [0, 1), sides in 64s."""

    def __init__(
        self, channels: int = CHANNELS, latents: int = LATENTS, hyper_latents: int = HYPER_LATENTS
    ) -> None:
        """Small by default: a plane's pixel costs about 7k multiplications each way."""
        super().__init__()
        wide, deep, hyper = channels, latents, hyper_latents
        self.latent_channels = latents
        self.hyper_latent_channels = hyper_latents
        self.analysis = nn.Sequential(
            _halving(1, wide),
            Gdn(wide),
            _halving(wide, wide),
            Gdn(wide),
            _halving(wide, wide),
            Gdn(wide),
            _halving(wide, deep),
        )
        self.synthesis = nn.Sequential(
            _doubling(deep, wide),
            Gdn(wide, inverse=True),
            _doubling(wide, wide),
            Gdn(wide, inverse=True),
            _doubling(wide, wide),
            Gdn(wide, inverse=True),
            _doubling(wide, 1),
        )
        last = _halving(hyper, hyper)
        # Hyper-latents that start within the noise of training would never come out of it.
        last.weight.data *= HYPER_GAIN
        self.hyper_analysis = nn.Sequential(
            nn.Conv2d(deep, hyper, 3, padding=1),
            nn.LeakyReLU(LEAK),
            _halving(hyper, hyper),
            nn.LeakyReLU(LEAK),
            last,
        )
        self.hyper_synthesis = nn.Sequential(
            _doubling(hyper, hyper),
            nn.LeakyReLU(LEAK),
            _doubling(hyper, hyper),
            nn.LeakyReLU(LEAK),
            nn.Conv2d(hyper, deep, 3, padding=1),
        )
        self.density = FactorisedDensity(hyper)
        # A sixth faster than torch's default layout on CPUs.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def latents(self, plane: Tensor) -> tuple[Tensor, Tensor]:
        """Latents and hyper-latents of a plane, not yet rounded."""
        latents = self.analysis(plane - 0.5)
        return latents, self.hyper_analysis(latents.abs())

    def scales(self, hyper_latents: Tensor) -> Tensor:
        """The scale of every latent, from rounded hyper-latents."""
        return _scales(self.hyper_synthesis(hyper_latents))

    def decoded(self, latents: Tensor) -> Tensor:
        """The plane that rounded latents stand for."""
        plane: Tensor = self.synthesis(latents) + 0.5
        return plane

    def forward(self, plane: Tensor, bfloat16: bool = False) -> Pass:
        """Pass with uniform noise for rounding in training, and with rounding otherwise.

        bfloat16: the convolutions' numbers. Noise, probabilities and what comes out stay float32.
        """
        convolutions = torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)
        with convolutions:
            latents, hyper_latents = self.latents(plane)
        latents, hyper_latents = (
            self._rounded(latents.float()),
            self._rounded(hyper_latents.float()),
        )
        with convolutions:
            logarithm = self.hyper_synthesis(hyper_latents)
            decoded = self.decoded(latents)
        probability = gaussian_probability(latents, _scales(logarithm.float()))
        bits = -probability.log2().sum() - self.density(hyper_latents).log2().sum()
        return Pass(decoded.float(), bits)

    def _rounded(self, numbers: Tensor) -> Tensor:
        if self.training:
            return numbers + torch.rand_like(numbers) - 0.5
        return numbers.round()


def gaussian_probability(numbers: Tensor, scales: Tensor) -> Tensor:
    """Probabilities of unit intervals about numbers under zero-mean Gaussians."""
    size = numbers.abs()
    root = math.sqrt(0.5)
    upper = torch.erfc((size - 0.5) / scales * root)
    lower = torch.erfc((size + 0.5) / scales * root)
    return (0.5 * (upper - lower)).clamp(min=_LEAST_PROBABILITY)


def _scales(logarithm: Tensor) -> Tensor:
    return logarithm.clamp(math.log(MIN_SCALE), math.log(MAX_SCALE)).exp()


def _halving(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 5, stride=2, padding=2)


def _doubling(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1)
