"""A second decoder, written from BITSTREAM.md alone in plain numpy: [n] names its sections."""

import io
import itertools
import zlib

import numpy as np

NEXT = (0, 3, 5, 6, 1, 2, 4, 7), (1, 2, 4, 7, 0, 3, 5, 6)  # [12], by the parity of q
SIDES = ((-1, 1, -1, 1), (-1, 1, 1, -1)), ((-1, 1, 0, 0), (0, 0, -1, 1))  # [14], by that of a pass
WEIGHTS = "neighbour_weights", "error", "channel_weights", "gains", "refined"


def lines(n, B, at):  # [5], [8.2] of tokens in these lines: band, place in it, its size; cosines
    bands = enumerate(np.array_split(np.arange(n), -(-n // B)))
    band, u, h = np.array([(i, u, len(part)) for i, part in bands for u in range(len(part))])[at].T
    D = np.cos(np.pi * u[:, None] * (2 * u + 1) / (2 * h)) * np.sqrt((2 - (u == 0)) / h)[:, None]
    return band, u, h, D * (band[:, None] == band)


class Reader(io.BytesIO):  # of bytes, of bits as "0" and "1", or of a lane, which comes in reverse
    x = 0

    def take(self, count):
        assert len(data := self.read(count)) == count
        return data

    def varint(self, low, high):  # [1], a signed one where low is below 0
        data = self.take(1)
        while data[-1] > 127:
            data += self.take(1)
        v = sum((byte & 127) << 7 * i for i, byte in enumerate(data))
        v = v >> 1 ^ -(v & 1) if low < 0 else v
        assert len(data) < 10 and (data[-1] or len(data) == 1) and low <= v <= high
        return v

    def fields(self, widths):  # [8]
        return np.array([int(b"0" + self.take(width), 2) for width in widths], int)

    def symbols(self, f, count=1):  # [7]
        out, sums = [], [0, *np.cumsum(f * ((1 << 24) // f.sum())).tolist()]
        for _ in range(count):
            while self.x < 1 << 32 and (word := self.read(4)):
                self.x = self.x << 32 | int.from_bytes(word, "big")
            out.append(s := np.searchsorted(sums, self.x & 0xFFFFFF, "right") - 1)
            self.x = (self.x >> 24) * (sums[s + 1] - sums[s]) + (self.x & 0xFFFFFF) - sums[s]
        return np.array(out, int)


def one_sided(t, j, cell, width, turn, bits):  # [14] all indices, and their centroids
    o, R, L = 8 * (t["offsets"][t["order"]] - 48) - j, t["tables.radii"], 1 << 24
    models = np.split(t["tables.classes"], np.cumsum(R + 1)[:-1])
    mean = np.minimum(t["octave"][o % 32] << (o >> 5).clip(-20, 20) + 20 >> 32, L)
    k, d = np.full((2, len(cell) + 1, len(o)), -1)  # the last row is a missing neighbour's
    place = np.pad(np.flatnonzero(cell >= 0).reshape(-1, width), 9, constant_values=-1)
    y, x = divmod((cell - max(cell[0], 0)).clip(0), width)
    h = np.gcd(np.gcd(y, x), 8)
    passes = np.where(cell < 0, 0, 7 - 2 * np.log2(h) - (y & x & h % 8 > 0))
    for i, kind in enumerate((0, 0, 1, 2, 3, 4, 5, 6)):  # none of kind 0 has neighbours decoded
        at, (dy, dx) = np.flatnonzero(passes == i), (8 >> i // 2) * np.array(SIDES[i % 2]) + 9
        w, e, weights, gains, r = (t[name][kind] for name in WEIGHTS)
        near = k[place[y[at] + dy[:, None], x[at] + dx[:, None]]]
        seen, near = near >= 0, 16 * near.clip(max=1 << 20)
        average = np.where(seen.any(0), (near * seen).sum(0) * (65536 // seen.sum(0)) >> 16, mean)
        near = np.where(seen, near, average)
        (first, second), (a, b) = near[::2] + near[1::2] >> 1, abs(near[::2] - near[1::2])
        smooth = np.select((a > 2 * b, b > 2 * a), (second, first), average) + average >> 1
        value = sum(a * b for a, b in zip(w.T, (first, second, smooth, mean))) >> 10
        value, spread = value.clip(-L, L), abs(near - average).sum(0) >> 2
        hints = spread, abs(first - second), value.clip(0), 16, mean
        error, missed = sum(a * b for a, b in zip(e, hints)) >> 10, 0 * value
        for f, end in zip(t["bounds"], t["bounds"][1:]):
            own = error[:, f:end] * gains[f:end] >> 8
            v = (value[:, f:end] + (missed[:, :f] @ weights[f:end, :f].T >> 12)).clip(0, L)
            ratio = (abs(missed).sum(1) + 16) * 256 // (error[:, :f].sum(1) + 16)
            lively = own * ratio.clip(max=2048)[:, None] >> 8
            u = r[0] * own + r[1] * lively + r[2] * v + r[3] * 16 >> 10
            s = np.frexp(u // 96)[1]
            v, u, base = v >> s, u >> s, ((v >> s + 4) - 48).clip(0)
            c = t["classes"][np.digitize(v, t["value_bounds"]), np.digitize(u, t["error_bounds"])]
            q = np.array([next(turn).symbols(models[i])[0] for i in c.flat], int).reshape(c.shape)
            sign = (q == R[c]) - 1 * ((q == 0) & (base > 0))
            low, widths = bits.fields(s.flat), bits.fields([5] * np.count_nonzero(sign))
            q[sign != 0] += sign[sign != 0] * ((1 << widths) + bits.fields(widths) - 1)
            k[at, f:end] = new = (base + q << s) + low.reshape(s.shape)
            assert ((new >= 0) & (new <= 1 << 30)).all()
            d[at, f:end] = t["tables.centroids"][c, new.clip(max=3)]
            missed[:, f:end] = 16 * new.clip(max=1 << 20) - value[:, f:end]
    return k[:-1, np.argsort(t["order"])], d[:-1, np.argsort(t["order"])]


@np.errstate(all="ignore")
def decode(data, tables, profile=({}, {}), shape=None, grid=(), book=None):
    """Return the integers of each chunk, and the values; a session has a shape."""
    form, chunks, arrived, (config, t) = 4, [], {}, profile
    digest = bytes.fromhex(config.get("digest", "0000803f"))[:8]
    if shape:  # [3]
        n = int.from_bytes(Reader(data).take(2), "little")
        form, j, flags = n >> 14, (n & 4095) - 2048, (n >> 11 & 4) + (n >> 9 & 8)
        flags, n = flags + bool(t) + 2 * bool(grid), (*shape, 2 * j ^ j >> 12, *grid)
        n = [v >> s for v in n for s in (0, 7, 14, 21) if s == 0 or v >> s]
        n = bytes(v & 127 | (v > 127) << 7 for v in n)
        data = b"FW\2%c" % flags + n + digest + data[2:]
    r = Reader(data)
    magic, flags = r.take(3), r.take(1)[0]  # [2.1]
    T, C, j = r.varint(1, 1 << 24), r.varint(1, 1 << 16), r.varint(-2048, 2047)
    height, width = (r.varint(1, T), r.varint(1, T)) if flags & 2 else (0, 1)
    named, trellis, midpoint, prefix = flags & 1, flags >> 2 & 1, flags >> 3, T - height * width
    who, channels = r.take(8 if named else 4), config.get("channels") if named else C
    assert magic == b"FW\2" and flags < 16 and T * C <= 1 << 28 and prefix >= 0 and C == channels
    assert who == digest if named else 0 < np.frombuffer(who, "<f4") < np.inf
    head, bound = data[: r.tell()], (1 << 18) + 10 * min(T * C, 1 << 22)
    while (at := r.tell()) < len(data):  # [2.2], [3]
        body = r.read() if form < 3 else r.take(r.varint(0, bound))
        crc = zlib.crc32(data[at : r.tell()], zlib.crc32(head)).to_bytes(4, "little")
        assert len(body) <= bound and (form < 4 or r.take(4) == crc)
        b = Reader(bytes([8 + 2 * form + 32 * bool(book)] * (form < 2)) + body)  # [4]
        new, reset, adapts, raw, whole, columns, rows, plain = map(int, f"{b.take(1)[0]:08b}")
        first, tokens = (0, T) if whole else (b.varint(0, T - 1), b.varint(1, T))
        base, mode = (b.varint(-2048, 2048), None) if plain else (0, config.get("mode"))
        bits = Reader("".join(f"{v:08b}" for v in b.take(raw and b.varint(0, bound))).encode())
        n, part = tokens * C, range(first, first + tokens)
        assert not new and reset <= adapts == (book is not None and not plain) and columns <= plain
        assert (plain or named) and part.stop <= T and n <= 1 << 22 and not arrived.keys() & part
        if reset:
            book.reset()
        check = zlib.crc32(head + b.getvalue()[: b.tell()] + (book.checked() if adapts else b""))
        lengths = [b.varint(1, bound) for _ in range((n >= 1 << 11) + 2 * (n >= 1 << 14))]
        lanes = [*map(b.take, lengths), b.read()]
        assert all(lane and lane[-1] for lane in lanes)
        lanes = [Reader((lane + bytes(-len(lane) % 4))[::-1]) for lane in lanes]
        words, f, row, x = np.zeros(0, int), np.zeros(tokens, int), np.arange(tokens), 0.0
        panel, inner, cell, turn = f, f >= 0, np.array(part) - prefix, itertools.cycle(lanes)
        if mode == "codebook":  # [7.1]
            own, codes, counts = t["group"], t["codewords"] * t["scales"][t["group"]], t["counts"]
            if adapts:
                codes, own, _, counts = map(np.array, zip(*book.places))
            table = 1 + counts.astype(object) * ((1 << 24) - len(counts)) // int(counts.sum())
            table[0] += (1 << 24) - table.sum()
            words = lanes[0].symbols(table, tokens)
            panel = f = own[words].astype(int)
            x = np.float32(codes[words] * (2.0**book.q if adapts else 1))
        if mode == "dct":  # [5] what a block has at (u, v) is kept with the token that is there
            assert height
            B, inner, (y, z) = config["block"], cell >= 0, divmod(cell.clip(0), width)
            (band, u, h, V), (strip, v, w, H) = lines(height, B, y), lines(width, B, z)
            assert (first == 0 or cell[0] > 0) and u[0] == z[0] == 0
            assert cell[-1] >= 0 and u[-1] + 1 == h[-1] and z[-1] + 1 == width
            panel = np.where(inner, -17 * h - w, -999)  # the larger first
            row = np.unique_inverse(panel * 2**30 + band * width + strip + cell.clip(max=0))[1]
            f = np.where(inner, u * B // h * B + v * B // w, B * B)
        if mode == "one-sided":  # [5] no panels
            assert not rows and (first == 0 or not height or cell[0] >= 0 == cell[0] % width)
            assert not height or cell[-1] >= -1 and not (cell[-1] + 1) % width
            f, row, panel = f[:0], row[:0], panel[:0]
        rows = lanes[0].symbols(tables["row_exponents"], len({*row}) * rows) - 31
        columns = lanes[0].symbols(tables["column_exponents"], C * columns) - 31
        column, y, p = (f[:, None] * C + np.arange(C)).ravel(), row.repeat(C), panel.repeat(C)
        offset = (t["offsets"] if mode else np.resize(columns, C))[column]
        group = (offset + np.resize(rows, len(row))[y] + base - (j >> 3)).clip(0, 159)  # [5.1]
        by = (y, column, offset, p) if trellis else (column, offset, y, p, group)  # [12], [5.2]
        order, kind, wide = np.lexsort(by), ("classes", "trellis")[trellis], 1 + trellis
        s, radii, state = np.maximum(group - 60 >> 2, 0)[order], tables["radii"], 0 * row
        own, q, Q = group[order] - 4 * s, 0 * s, 0 * s
        models = np.split(tables[kind], np.cumsum(np.repeat(2 * radii + 1, wide))[:-1])
        for i, (c, y, fine) in enumerate(zip(own, y[order], trellis & (s == 0))):  # [6], [12]
            Q[i] = state[y] & fine
            q[i] = next(turn).symbols(models[wide * c + Q[i]])[0] - radii[c]
            state[y] = NEXT[q[i] & 1][state[y]]
        edges, low = np.flatnonzero(abs(q) == radii[own]), bits.fields(s)
        widths = lanes[0].symbols(tables["escape_lengths"], len(edges))
        q[edges] += np.sign(q[edges]) * ((1 << widths) + bits.fields(widths) - 1)
        k = (q << s) + low - (1 << s >> 1)
        d = tables["trellis_" * trellis + "centroids"].reshape(-1, 4)
        d = d[wide * own + Q, abs(k).clip(max=3)]
        k, d, Q, sign = (a[np.argsort(order)].reshape(-1, C) for a in (k, d, Q, np.sign(k)))
        if mode == "one-sided":
            k, d = one_sided(t | tables["one_sided"], j, cell, width, turn, bits)
            Q, sign, mode = 0, 1, None
        assert all(lane.x == 1 << 24 | check & 0xFFFFFF and not lane.read() for lane in lanes)
        assert len(rest := bits.read()) < 8 and b"1" not in rest
        a = abs(k).astype(np.float32)  # [8.1]
        residual = sign * (a + (d / 256 - Q / 2).astype(np.float32))
        x = x + (sign * (a - Q / 2) if midpoint else residual) * 2 ** (j / 32)
        if mode:  # [8.2]
            M = t.get("matrices", t.get("matrix", np.eye(C))).reshape(-1, C, C)
            M = t.get("weight_inverse", np.eye(C)).T @ M
            x[inner] = np.einsum("tic,tc->ti", M[f[inner] % len(M)], x[inner])
            if mode == "dct":
                x[inner] = (V * H)[inner][:, inner].T @ x[inner]
                x[~inner] += t["prefix_mean"] - t["mean"]
            x = x + t["mean"]
        assert np.isfinite(x := x.astype(np.float32)).all()
        arrived.update(zip(part, x))
        if adapts:
            book.update(words, j, residual)
        chunks.append((words, rows, columns, k, panel, row, f))
    assert len(arrived) == T
    return chunks, np.stack([arrived[i] for i in range(T)])
