"""A second decoder, written from BITSTREAM.md alone in plain numpy: [n] names its sections."""

import io
import zlib

import numpy as np

NEXT = (0, 3, 5, 6, 1, 2, 4, 7), (1, 2, 4, 7, 0, 3, 5, 6)  # [12], by the parity of q


class Bad(Exception): ...


def need(*conditions):
    if not all(conditions):
        raise Bad


def lines(n, B, at):  # [5], [8.2] of tokens in these lines: band, place in it, its size; cosines
    bands = enumerate(np.array_split(np.arange(n), -(-n // B)))
    band, u, h = np.array([(i, u, len(part)) for i, part in bands for u in range(len(part))])[at].T
    D = np.cos(np.pi * u[:, None] * (2 * u + 1) / (2 * h)) * np.sqrt((2 - (u == 0)) / h)[:, None]
    return band, u, h, D * (band[:, None] == band)


class Reader(io.BytesIO):  # of bytes, or of the symbols of a lane, whose bytes come in reverse
    x = 0

    def take(self, count):
        need(len(data := self.read(count)) == count)
        return data

    def varint(self, low, high):  # [1]
        data = self.take(1)
        while data[-1] > 127:
            data += self.take(1)
        v = sum((byte & 127) << 7 * i for i, byte in enumerate(data))
        need(len(data) < 10, data[-1] or len(data) == 1, low <= v <= high)
        return v

    def symbols(self, f, count=1):  # [7]
        out, sums = [], [0, *np.cumsum(f * ((1 << 24) // f.sum())).tolist()]
        for _ in range(count):
            while self.x < 1 << 32 and (word := self.read(4)):
                self.x = self.x << 32 | int.from_bytes(word, "big")
            out.append(s := np.searchsorted(sums, self.x & 0xFFFFFF, "right") - 1)
            self.x = (self.x >> 24) * (sums[s + 1] - sums[s]) + (self.x & 0xFFFFFF) - sums[s]
        return np.array(out, int)


class Book:  # [13] codewords that adapt: integers, in floats that hold them exactly
    def __init__(self, t):
        self.t, n = t, t["counts"]
        self.q, self.free, self.updates = np.frexp(t["spreads"].min())[1] - 10, len(n), 0
        scales = np.minimum(np.rint(t["scales"] / 2.0**self.q * 65536), 2.0**40)[t["group"]]
        codes = ((t["codewords"] * scales + 32768) // 65536).clip(-(2**28), 2**28)
        self.places = [*zip(codes, t["group"], n.clip(max=32), n * 32768 // n.sum() + 1)]

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


@np.errstate(all="ignore")
def decode(data, tables, profile=({}, {}), shape=None, grid=(), book=None):
    """Return the integers of each chunk, and the values; a session has a shape."""
    form, chunks, arrived, (config, t) = 4, [], {}, profile
    digest = bytes.fromhex(config.get("digest", "0000803f"))[:8]
    if shape:  # [3]
        n = int.from_bytes(Reader(data).take(2), "little")
        form, j, flags = n >> 14, (n & 4095) - 2048, (n >> 11 & 4) + (n >> 9 & 8)
        flags, numbers = flags + bool(t) + 2 * bool(grid), (*shape, 2 * j ^ j >> 12, *grid)
        parts = [(v >> s, s) for v in numbers for s in range(0, 63, 7) if v >> s or s == 0]
        numbers = bytes(v & 127 | (v > 127) << 7 for v, s in parts)
        data = b"FW\2%c" % flags + numbers + digest + data[2:]
    r = Reader(data)
    magic, flags = r.take(3), r.take(1)[0]  # [2.1]
    T, C, j = r.varint(1, 1 << 24), r.varint(1, 1 << 16), r.varint(0, 4095)
    height, width = (r.varint(1, T), r.varint(1, T)) if flags & 2 else (0, 0)
    named, trellis, midpoint, j = flags & 1, flags >> 2 & 1, flags >> 3, j >> 1 ^ -(j & 1)
    who, prefix = r.take(8 if named else 4), T - height * width
    need(magic == b"FW\2", flags < 16, T * C <= 1 << 28, prefix >= 0)
    energy = named or 0 < np.frombuffer(who, "<f4")[0] < np.inf
    need(energy, not named or who == digest and C == config["channels"])
    head, bound = data[: r.tell()], (1 << 18) + 10 * min(T * C, 1 << 22)
    while r.tell() < len(data):  # [2.2], [3]
        at, flags = r.tell(), [8 + 2 * form + 32 * bool(book)] if form < 2 else []
        body = r.read() if form < 3 else r.take(r.varint(0, bound))
        crc = zlib.crc32(data[at : r.tell()], zlib.crc32(head)).to_bytes(4, "little")
        need(len(body) <= bound, form < 4 or r.take(4) == crc)
        b = Reader(bytes(flags) + body)  # [4]
        flags = b.take(1)[0]
        plain, rows, columns, whole, raw, adapts, reset, new = (flags >> i & 1 for i in range(8))
        first, tokens = (0, T) if whole else (b.varint(0, T - 1), b.varint(1, T))
        base, mode = (b.varint(0, 4096), None) if plain else (0, config.get("mode"))
        base, raw = base >> 1 ^ -(base & 1), b.take(b.varint(0, bound)) if raw else b""
        n, part = tokens * C, range(first, first + tokens)
        need(not new, reset <= adapts == (book is not None and not plain), columns <= plain)
        need(plain or named, part.stop <= T, n <= 1 << 22 and not arrived.keys() & part)
        if reset:
            book.__init__(t)
        updates = book.updates.to_bytes(8, "little") if adapts and book.updates else b""
        check = zlib.crc32(head + b.getvalue()[: b.tell()] + updates) & 0xFFFFFF
        lengths = [b.varint(1, bound) for _ in range((n >= 1 << 11) + 2 * (n >= 1 << 14))]
        lanes = [*map(b.take, lengths), b.read()]
        need(*(lane and lane[-1] for lane in lanes))
        lanes = [Reader((lane + bytes(-len(lane) % 4))[::-1]) for lane in lanes]
        words, f, row, x = np.zeros(0, int), np.zeros(tokens, int), np.arange(tokens), 0.0
        if mode == "codebook":  # [7.1]
            own, codes, counts = t["group"], t["codewords"] * t["scales"][t["group"]], t["counts"]
            if adapts:
                codes, own, _, counts = map(np.array, zip(*book.places))
            table = 1 + counts.astype(object) * ((1 << 24) - len(counts)) // int(counts.sum())
            table[0] += (1 << 24) - table.sum()
            words = lanes[0].symbols(table, tokens)
            f, x = own[words].astype(int), np.float32(codes[words] * (2.0**book.q if adapts else 1))
        panel, inner = f, f >= 0
        if mode == "dct":  # [5] what a block has at (u, v) is kept with the token that is there
            need(height)
            cell, B = np.array(part) - prefix, config["block"]
            inner, (y, z) = cell >= 0, divmod(cell.clip(0), width)
            (band, u, h, V), (strip, v, w, H) = lines(height, B, y), lines(width, B, z)
            need(first == 0 or cell[0] > 0, u[0] == z[0] == 0)
            need(cell[-1] >= 0, u[-1] + 1 == h[-1], z[-1] + 1 == width)
            panel = np.where(inner, -17 * h - w, -999)  # the larger first
            row = panel * 2**30 + band * width + strip + cell.clip(max=0)
            row = np.unique(row, return_inverse=True)[1]
            f = np.where(inner, u * B // h * B + v * B // w, B * B)
        n = max(row) + 1
        rows = lanes[0].symbols(tables["row_exponents"], n) - 31 if rows else np.zeros(n, int)
        columns = lanes[0].symbols(tables["column_exponents"], C * columns) - 31
        column, y, p = (f[:, None] * C + np.arange(C)).ravel(), row.repeat(C), panel.repeat(C)
        offset = (t["offsets"] if mode else np.resize(columns, C))[column]
        group = (offset + rows[y] + base - (j >> 3)).clip(0, 159)  # [5.1]
        by = (y, column, offset, p) if trellis else (column, offset, y, p, group)  # [12], [5.2]
        order, kind, wide = np.lexsort(by), ("classes", "trellis")[trellis], 1 + trellis
        s, radii, state = np.maximum(group - 60 >> 2, 0)[order], tables["radii"], 0 * row
        own, q, Q = group[order] - 4 * s, 0 * s, 0 * s
        models = np.split(tables[kind], np.cumsum(np.repeat(2 * radii + 1, wide))[:-1])
        for i, (c, y, fine) in enumerate(zip(own, y[order], trellis & (s == 0))):  # [6], [12]
            Q[i] = state[y] & fine
            q[i] = lanes[i % len(lanes)].symbols(models[wide * c + Q[i]])[0] - radii[c]
            state[y] = NEXT[q[i] & 1][state[y]]
        edges = np.flatnonzero(abs(q) == radii[own])
        widths = lanes[0].symbols(tables["escape_lengths"], len(edges))
        need(*(lane.x == 1 << 24 | check and not lane.read() for lane in lanes))
        ends, bits = np.cumsum([0, *s, *widths]), "".join(f"{byte:08b}" for byte in raw)
        need(len(raw) == -(-ends[-1] // 8), "1" not in bits[ends[-1] :])  # [8]
        low = np.array([int("0" + bits[a:b], 2) for a, b in zip(ends, ends[1:])])
        q[edges] += np.sign(q[edges]) * ((1 << widths) + low[len(s) :] - 1)
        k = (q << s) + low[: len(s)] - (1 << s >> 1)
        d = tables["trellis_" * trellis + "centroids"].reshape(64, wide, 4)
        d = d[own, Q, abs(k).clip(max=3)]
        k, d, Q = (a[np.argsort(order)].reshape(tokens, C) for a in (k, d, Q))
        a = k.astype(np.float32)  # [8.1]
        residual = np.sign(a) * (abs(a) + (d / 256 - Q / 2).astype(np.float32))
        x = x + (np.sign(a) * (abs(a) - Q / 2) if midpoint else residual) * 2 ** (j / 32)
        if mode:  # [8.2]
            M = t.get("matrices", t.get("matrix", np.eye(C))).reshape(-1, C, C)
            M = t.get("weight_inverse", np.eye(C)).T @ M
            x[inner] = np.einsum("tic,tc->ti", M[f[inner] % len(M)], x[inner])
            if mode == "dct":
                x[inner] = (V * H)[inner][:, inner].T @ x[inner]
                x[~inner] += t["prefix_mean"] - t["mean"]
            x = x + t["mean"]
        need(np.isfinite(x := x.astype(np.float32)).all())
        arrived.update(zip(part, x))
        if adapts:
            book.update(words, j, residual)
        chunks.append((words, rows, columns, k, panel, row, f))
    need(len(arrived) == T)
    return chunks, np.stack([arrived[i] for i in range(T)])
