"""Codewords that learn within a session: a chunk's integers in, the codebook of the next one out.

After each chunk both sides move the codewords that it chose towards its decoded tokens, and make
tokens that were far from theirs new codewords (adaptive vector quantisation; Gersho and Gray, 1992,
chapter 16). State and arithmetic are integers alone, so both sides stay alike on any machine.

Coefficients are counted in units of 2^q, the power of two that the smallest spread of the codebook
holds 512 to 1023 times. Divisions are multiplications by tables of integers, and shifts.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .codebook import GroupedTokens, TokenCodebook, search_basis
from .transform import Floats

STEPS_PER_OCTAVE = 32
CENTROID_BITS = 8
SIZE_LIMIT = 1 << 40  # of a coefficient in 1/256 of a step

_UNIT_BITS = 10
_VALUE_LIMIT = 1 << 28  # of a coefficient in units: half a million of the smallest spreads
_POWER_BITS = 14
_POWERS = np.array([round(2 ** (_POWER_BITS + j / 32)) for j in range(32)], np.int64)
_RECIPROCAL_BITS = 16
_HALF = 1 << (_RECIPROCAL_BITS - 1)
_DISTANCE_BITS = 6  # a spread is 64 in a distance
_DISTANCE_LIMIT = 1 << 14
_OLDEST = 32  # a codeword moves by at least 1/32 of what is left
_RECIPROCALS = np.array([0] + [(1 << _RECIPROCAL_BITS) // a for a in range(1, _OLDEST + 1)])
_COUNT_UNIT = 64  # one use of a codeword
_START_TOKENS = 512  # the calibration's counts weigh as much as so many tokens of the session
_COUNT_LIMIT = 4096 * _COUNT_UNIT  # counts are halved beyond it


def unit_exponent(codebook: TokenCodebook) -> int:
    """Return q: coefficients are counted in units of 2^q."""
    return int(np.frexp(codebook.spreads.min())[1]) - _UNIT_BITS


def fixed_point(units: NDArray[np.int64], step_exponent: int, unit: int) -> NDArray[np.int64]:
    """Return `units` / 256 x 2^(j/32) in units of 2^unit, rounded half up in size.

    `units` are values as the decoder rebuilds them, in 1/256 of a step.
    """
    octaves, part = divmod(step_exponent, STEPS_PER_OCTAVE)
    size = np.minimum(np.abs(units), SIZE_LIMIT) * _POWERS[part]
    shift = CENTROID_BITS + _POWER_BITS + unit - octaves
    if shift > 0:
        size = (size + (1 << (min(shift, 62) - 1))) >> min(shift, 62)
    else:
        size = np.minimum(size, _VALUE_LIMIT) << min(-shift, 30)
    size = np.minimum(size, _VALUE_LIMIT)
    signed: NDArray[np.int64] = np.where(units < 0, -size, size)
    return signed


class AdaptiveCodebook(GroupedTokens):
    """A codebook and what a session has made of it; see `TokenCodebook` for what it does.

    There are `capacity` codewords of the session beside the profile's own; the oldest is
    overwritten when all are used.
    """

    mode: ClassVar[str] = "codebook"

    def __init__(self, start: TokenCodebook, capacity: int = 4096, far: float = 0.7) -> None:
        """`far`: the mean squared distance, in spreads, at which a token becomes a codeword."""
        self.start = start
        self.mean, self.weight = start.mean, start.weight
        self.columns = start.columns
        self._capacity = capacity
        self.unit = unit_exponent(start)
        scale = np.ldexp(start.spreads.astype(np.float64), -self.unit).astype(np.int64)
        self._weights = (1 << (_RECIPROCAL_BITS + _DISTANCE_BITS)) // np.maximum(scale, 1)
        self._far = int(far * len(start.mean) * (1 << (2 * _DISTANCE_BITS)))
        self._basis = search_basis(start, 96)[0]
        self.reset()

    def reset(self) -> None:
        """Forget the session: the codewords are the profile's own again."""
        start, total = self.start, self._capacity + len(self.start.codewords)
        channels = len(start.mean)
        own = len(start.codewords)
        scales = np.ldexp(start.scales.astype(np.float64), 16 - self.unit)
        scales = np.minimum(np.rint(scales), 1 << 40).astype(np.int64)
        self._words = np.zeros((total, channels), np.int32)
        words = (start.codewords * scales[start.group] + (1 << 15)) >> 16
        self._words[:own] = np.clip(words, -_VALUE_LIMIT, _VALUE_LIMIT)
        self.group = np.zeros(total, np.uint8)
        self.group[:own] = start.group
        self._age = np.ones(total, np.int64)
        self._age[:own] = np.minimum(start.counts, _OLDEST)
        self._counts = np.zeros(total, np.int64)
        share = start.counts * (_START_TOKENS * _COUNT_UNIT) // max(1, int(start.counts.sum()))
        self._counts[:own] = share + 1
        self._used, self._next = own, own
        self._places = np.zeros((total, self._basis.shape[1]), np.float32)
        self._place(np.arange(own))

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each codeword in use was chosen: the index's probabilities follow from it."""
        return self._counts[: self._used]

    def search(self, feature: Floats) -> NDArray[np.int32]:
        """Choose a codeword for each token; see `TokenCodebook.search`."""
        import torch

        used = self._used
        place = (feature - self.mean) @ self._basis
        chance = self.counts / self.counts.sum()
        words = torch.from_numpy(self._places[:used])
        bias = torch.from_numpy(
            (0.7213 * (self._places[:used] ** 2).sum(1) - np.log2(chance)).astype(np.float32)
        )
        cost = torch.addmm(bias, torch.from_numpy(place * np.float32(-1.4427)), words.T)
        return cost.argmin(dim=1).numpy().astype(np.int32)

    def rotate(self, rows: Floats, group: NDArray[np.uint8], back: bool = False) -> Floats:
        """See `TokenCodebook.rotate`."""
        return self.start.rotate(rows, group, back)

    def codeword(self, index: NDArray[np.int32]) -> Floats:
        """See `TokenCodebook.codeword`."""
        words: Floats = np.ldexp(self._words[index].astype(np.float32), self.unit)
        return words

    def update(self, index: NDArray[np.int32], residual: NDArray[np.int64]) -> None:
        """Learn from a chunk: its index int32[T] and residual int64[T, C] in units, as decoded."""
        group = self.group[index]
        normal = (np.abs(residual) * self._weights[group]) >> _RECIPROCAL_BITS
        distance = (np.minimum(normal, _DISTANCE_LIMIT) ** 2).sum(axis=1)
        tokens = self._words[index] + residual  # where the chunk's own codewords were
        changed = set()
        for row, word in enumerate(index.tolist()):
            if distance[row] > self._far and self._capacity:
                place = self._new()
                self._words[place] = np.clip(tokens[row], -_VALUE_LIMIT, _VALUE_LIMIT)
                self.group[place] = group[row]
                self._age[place] = 1
                self._counts[place] = _COUNT_UNIT
            else:
                place = word
                self._age[place] = min(self._age[place] + 1, _OLDEST)
                self._counts[place] += _COUNT_UNIT
                gap = tokens[row] - self._words[place]
                step = (gap * _RECIPROCALS[self._age[place]] + _HALF) >> _RECIPROCAL_BITS
                moved = self._words[place] + step
                self._words[place] = np.clip(moved, -_VALUE_LIMIT, _VALUE_LIMIT)
            changed.add(place)
        if self._counts[: self._used].sum() > _COUNT_LIMIT:
            self._counts[: self._used] = (self._counts[: self._used] + 1) >> 1
        self._place(np.array(sorted(changed)))

    def _new(self) -> int:
        """Return the place of a new codeword: a free one, else the session's oldest."""
        place, own = self._next, len(self.start.codewords)
        self._used = max(self._used, place + 1)
        self._next = place + 1 if place + 1 < len(self._words) else own
        return place

    def _place(self, words: NDArray[np.integer]) -> None:
        """Tell the search where codewords are."""
        index = words.astype(np.int32)
        back = self.start.rotate(self.codeword(index), self.group[index], back=True)
        self._places[index] = back @ self._basis
