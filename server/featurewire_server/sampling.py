"""The next token: logits in, a token id out."""

import hashlib

import torch
from featurewire.v1 import featurewire_pb2 as pb

# below it all others have no probability, and float32 has no room for the quotients
_COLD = 1e-30


def next_token(logits: torch.Tensor, sampling: pb.Sampling, position: int) -> int:
    """Draws one token id from logits `[vocabulary]`.

    Temperature 0, or less than 1e-30, takes the most likely one. Otherwise top-k, then top-p
    (nucleus sampling, Holtzman et al. 2020) keep the likely tokens. The noise derives from the seed
    and the position alone, so a session that is replayed draws the same tokens, on whatever device
    the logits are.

    Raises ValueError where tokens are drawn from logits that are no numbers.
    """
    if sampling.temperature < _COLD:
        return int(logits.argmax())
    scaled = logits.float() / sampling.temperature
    if 0 < sampling.top_k < scaled.numel():
        kept = scaled.topk(sampling.top_k).values[-1]
        scaled = scaled.masked_fill(scaled < kept, -torch.inf)
    probabilities = scaled.softmax(-1)
    if 0 < sampling.top_p < 1:
        ordered, order = probabilities.sort(descending=True)
        # a token is dropped when those before it already reach top_p; the first always stays
        dropped = ordered.cumsum(-1) - ordered >= sampling.top_p
        dropped[0] = False  # where float32 takes top_p for 0 too
        probabilities[order[dropped]] = 0
    generator = torch.Generator().manual_seed(_noise_seed(sampling.seed, position))
    noise = float(torch.rand((), generator=generator, dtype=torch.float64))
    cumulative = probabilities.double().cumsum(-1)
    # the first token whose share reaches beyond the noise: one of probability 0 has no share
    beyond = (cumulative > noise * cumulative[-1]).int()
    token, found = torch.stack([beyond.argmax(), beyond.amax()]).tolist()
    if not found:
        raise ValueError("the logits are not all numbers")
    return int(token)


def _noise_seed(seed: int, position: int) -> int:
    digest = hashlib.blake2b(f"{seed} {position}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")
