"""Codewords that adapt, from docs/BITSTREAM.md alone: section 13, for independent_decoder.py."""

import math
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

LIMIT = 1 << 28


class Book:
    """The state of one direction of a session."""

    def __init__(self, folder):
        self.t = load_file(Path(folder) / "profile.safetensors")
        self.q = math.frexp(self.t["spreads"].min())[1] - 10
        self.reset()

    def reset(self):
        t, n = self.t, self.t["counts"]
        self.k = self.used = self.free = len(n)
        self.updates = 0
        s = np.minimum(np.rint(t["scales"].astype(float) / 2.0**self.q * 65536), 2.0**40)
        codes = (t["codewords"] * s.astype(np.int64)[t["group"]] + (1 << 15)) >> 16
        self.codes = np.pad(codes.clip(-LIMIT, LIMIT), ((0, 4096), (0, 0)))
        self.group = np.pad(t["group"].astype(int), (0, 4096))
        self.age = np.pad(np.minimum(n, 32), (0, 4096))
        self.count = np.pad([int(x) * 32768 // int(n.sum()) + 1 for x in n], (0, 4096))

    def update(self, j, words, r):
        """For tokens of these codewords, with residuals r in 1/256 of a step."""
        p = np.rint(2.0 ** (14 + np.arange(32) / 32)).astype(np.int64)
        z = 22 + self.q - (j >> 5)
        a = np.minimum(np.abs(r), 1 << 40) * p[j & 31]
        if z > 0:
            a = (a + (1 << (min(z, 62) - 1))) >> min(z, 62)
        else:
            a = np.minimum(a, LIMIT) << min(-z, 30)
        residual = np.sign(r) * np.minimum(a, LIMIT)
        spread = np.floor(self.t["spreads"].astype(float) / 2.0**self.q).astype(np.int64)
        groups, tokens = self.group[words], self.codes[words] + residual
        weight = ((1 << 22) // np.maximum(spread, 1))[groups]
        distance = (np.minimum((np.abs(residual) * weight) >> 16, 1 << 14) ** 2).sum(1)
        far = distance > math.floor(0.7 * r.shape[1] * 4096)
        for place, group, token, new in zip(words, groups, tokens, far, strict=True):
            if new:
                place, code = self.free, token
                self.group[place], self.age[place], self.count[place] = group, 1, 64
                self.used = max(self.used, place + 1)
                self.free = place + 1 if place < self.k + 4095 else self.k
            else:
                self.age[place] = min(self.age[place] + 1, 32)
                self.count[place] += 64
                share, code = 65536 // self.age[place], self.codes[place]
                code = code + (((token - code) * share + (1 << 15)) >> 16)
            self.codes[place] = code.clip(-LIMIT, LIMIT)
        if self.count[: self.used].sum() > 1 << 18:
            self.count[: self.used] = (self.count[: self.used] + 1) >> 1
        self.updates += 1
