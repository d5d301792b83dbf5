"""One network at work: an index plane in, entropy-coded words out, and back.

    plane -> analysis -> latents -> entropy coder -> words

The scales that encoder and decoder must agree on come from the hyper-synthesis, which therefore
runs in float64: its last bits differ between machines and numbers of threads, but a scale seldom
lies so near the middle between two of the 64. A checksum of their indices tells when one did.
"""

import copy
import zlib

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import BitstreamError
from .entropy import (
    LARGEST_HYPER_LATENT,
    LARGEST_LATENT,
    MAX_SYMBOL_BITS,
    LatentDecoder,
    encode_latents,
    hyper_models,
    scale_indices,
)
from .hyperprior import Hyperprior
from .kmeans import CENTRES

LATENT_STRIDE = 16
HYPER_STRIDE = 64


class PlaneCoder:
    """Encodes and decodes padded planes uint8[height, width] by one trained network.

    It holds no state between calls and may be shared by threads.
    """

    def __init__(self, network: Hyperprior) -> None:
        """Takes the network over, for inference."""
        self._network = network.eval().requires_grad_(False)
        self._hyper_synthesis = copy.deepcopy(network.hyper_synthesis).double()
        reach = torch.arange(-LARGEST_HYPER_LATENT, LARGEST_HYPER_LATENT + 1, dtype=torch.float64)
        density = copy.deepcopy(network.density).double()
        every = reach.expand(1, network.hyper_latent_channels, 1, -1)
        self._models = hyper_models(density(every)[0, :, 0].numpy())

    def encode(self, plane: NDArray[np.uint8]) -> tuple[NDArray[np.uint32], int]:
        """Encode to words, and the CRC-32 of the scale indices."""
        latents, hyper_latents = self.latents(plane)
        indices = self.scale_indices(hyper_latents)
        return encode_latents(hyper_latents, self._models, latents, indices), _checksum(indices)

    def decode(
        self, words: NDArray[np.uint32], checksum: int, shape: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Decode a plane of a padded shape.

        Raises:
            BitstreamError: the words are not these symbols', or another machine's arithmetic made
                them.
        """
        decoder = LatentDecoder(words)
        rows, columns = (side // HYPER_STRIDE for side in shape)
        indices = self.scale_indices(decoder.hyper_latents(self._models, (rows, columns)))
        if _checksum(indices) != checksum:
            raise BitstreamError(
                "the scales of the latents differ from the encoder's: the stream is damaged, or "
                "was made on a machine whose arithmetic differs"
            )
        return self.plane(decoder.latents(indices))

    def max_words(self, shape: tuple[int, int]) -> int:
        """The most words that a plane of a padded shape can take."""
        pixels = shape[0] * shape[1]
        symbols = self._network.hyper_latent_channels * pixels // HYPER_STRIDE**2
        symbols += self._network.latent_channels * pixels // LATENT_STRIDE**2
        return symbols * MAX_SYMBOL_BITS // 32 + 2

    @torch.inference_mode()
    def latents(self, plane: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Round the latents [192, h / 16, w / 16] and hyper-latents [32, h / 64, w / 64]."""
        scaled = torch.from_numpy(plane).float()[None, None] / CENTRES
        scaled = scaled.contiguous(memory_format=torch.channels_last)
        latents, hyper_latents = self._network.latents(scaled)
        return _integers(latents, LARGEST_LATENT), _integers(hyper_latents, LARGEST_HYPER_LATENT)

    @torch.inference_mode()
    def scale_indices(self, hyper_latents: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Which of the 64 scales every latent has: uint8[192, h / 16, w / 16]."""
        logarithms = self._hyper_synthesis(torch.from_numpy(hyper_latents).double()[None])[0]
        return scale_indices(logarithms.clamp(-50.0, 50.0).exp().numpy())

    @torch.inference_mode()
    def plane(self, latents: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Reconstruct the plane uint8[height, width] from latents: whole indices, as published."""
        numbers = torch.from_numpy(latents).float()[None]
        numbers = numbers.contiguous(memory_format=torch.channels_last)
        decoded = self._network.decoded(numbers)[0, 0]
        whole = (decoded * CENTRES).round_().clamp_(0, CENTRES - 1).to(torch.uint8)
        return whole.contiguous().numpy()


def _integers(numbers: torch.Tensor, largest: int) -> NDArray[np.int32]:
    rounded = numbers[0].round().clamp(-largest, largest).to(torch.int32)
    return rounded.contiguous().numpy()


def _checksum(indices: NDArray[np.uint8]) -> int:
    return zlib.crc32(indices.tobytes())
