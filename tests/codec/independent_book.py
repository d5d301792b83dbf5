"""Codewords that adapt, for `independent_decoder`: section 13 of BITSTREAM.md in plain numpy."""

import numpy as np


class Book:
    """A session's codewords: integers, in floats that hold them exactly."""

    def __init__(self, t):
        self.t, self.q = t, np.frexp(t["spreads"].min())[1] - 10
        self.reset()

    def reset(self):
        t, n = self.t, self.t["counts"]
        self.free, self.updates = len(n), 0
        scales = np.minimum(np.rint(t["scales"] / 2.0**self.q * 65536), 2.0**40)[t["group"]]
        codes = ((t["codewords"] * scales + 32768) // 65536).clip(-(2**28), 2**28)
        self.places = [*zip(codes, t["group"], n.clip(max=32), n * 32768 // n.sum() + 1)]

    def checked(self):
        """Return what the check of a chunk has of the updates (section 4)."""
        return self.updates.to_bytes(8, "little") if self.updates else b""

    def update(self, words, j, r):
        a = np.minimum(abs(r), 2.0**32) * np.rint(2 ** (14 + j % 32 / 32))
        r = np.sign(r) * np.floor(a * 2.0 ** ((j >> 5) - self.q - 14) + 0.5).clip(max=2**28)
        W, K = 2**22 // np.maximum(self.t["spreads"] // 2.0**self.q, 1), len(self.t["counts"])
        before, far = [self.places[p] for p in words], np.floor(0.7 * r.shape[1] * 4096)
        for p, r, (token, g, *_) in zip(words, r, before):
            (code, own, age, count), token = self.places[p], token + r
            age, distance = min(age + 1, 32), (abs(r) * W[g] // 65536).clip(max=2**14) ** 2
            code = code + ((token - code) * (65536 // age) + 32768) // 65536
            new = code, own, age, count + 64
            if distance.sum() > far:
                p, self.free, new = self.free, K + (self.free + 1 - K) % 4096, (token, g, 1, 64)
            self.places[p : p + 1] = [(new[0].clip(-(2**28), 2**28), *new[1:])]
        if sum(count for *_, count in self.places) > 1 << 18:
            self.places = [(*rest, count + 1 >> 1) for *rest, count in self.places]
        self.updates += 1
