"""A second decoder, written from BITSTREAM.md alone in plain numpy: [n] names its sections."""

import io
import zlib

import numpy as np

ROWS = "dct", "one-sided"  # [5] modes whose chunks have whole rows of the grid
NEXT = (0, 3, 5, 6, 1, 2, 4, 7), (1, 2, 4, 7, 0, 3, 5, 6)  # [12], by the parity of q
SIDES = ((-1, 1, -1, 1), (-1, 1, 1, -1)), ((-1, 1, 0, 0), (0, 0, -1, 1))  # [14], by that of a pass


class Reader(io.BytesIO):  # of bytes, of bits as "0" and "1", or of a lane, which comes in reverse
    x = 0

    def take(self, count):
        assert len(data := self.read(count)) == count
        return data

    def varint(self, low, high):  # [1], a signed one where low is below 0
        v = self.take(1)[0]
        v += 128 * self.varint(1, high >> 6) - 128 if v > 127 < high else 0  # the rest is not 0
        assert low <= (v := v >> 1 ^ -(v & 1) if low < 0 else v) <= high
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


def one_sided(t, j, cell, width, turn, bits, L=1 << 26):  # [14] indices, centroids, Q, signs
    o, V, U = 8 * (t["offsets"][t["order"]] - 48) - j, t["value_bounds"], t["error_bounds"]
    both = np.split(t["tables.classes"], np.cumsum(t["tables.radii"] + 1)[:-1])
    both = [np.insert(f, [-1] * (128 - len(f)), 0) for f in both]  # the escape stays the last
    both = np.array([(8 - n) * both[a] + n * both[b] >> 3 for a, b, n in t["mixture"].astype(int)])
    R = t["tables.radii"][t["mixture"][:, :2]].max(1)
    models = [f[[*range(r), 127]].clip(1) for f, r in zip(both, R)]
    models = [f + (f.argmax() == np.arange(len(f))) * ((1 << 14) - f.sum()) for f in models]
    mean = np.minimum(t["octave"][o % 32] << (o >> 5).clip(-20, 20) + 20 >> 30, L)
    k, d = np.full((2, len(cell) + 1, len(o)), -1)  # the last row is a missing neighbour's
    place = np.pad(np.flatnonzero(cell >= 0).reshape(-1, width), 9, constant_values=-1)
    y, x = divmod((cell - max(cell[0], 0)).clip(0), width)
    h = np.gcd(np.gcd(y, x), 8)
    passes = np.where(cell < 0, 0, 7 - 2 * np.log2(h) - (y & x & h % 8 > 0))
    for i, kind in enumerate((0, 0, 1, 2, 3, 4, 5, 6)):  # none of kind 0 has neighbours decoded
        at, (dy, dx) = np.flatnonzero(passes == i), (8 >> i // 2) * np.array(SIDES[i % 2]) + 9
        near = k[place[y[at] + dy[:, None], x[at] + dx[:, None]]]
        seen, zero, near = near >= 0, near == 0, 64 * near.clip(0, 1 << 20)
        average = np.where(seen.any(0), near.sum(0) * (65536 // seen.sum(0)) >> 16, mean)
        near = np.where(seen, near, average)
        (first, second), (a, b) = near[::2] + near[1::2] >> 1, abs(near[::2] - near[1::2])
        smooth = np.select((a > 2 * b, b > 2 * a), (second, first), average) + average >> 1
        w, e, r = (t[name][kind] for name in ("neighbour_weights", "error", "refined"))
        value = (sum(a * b for a, b in zip(w.T, (first, second, smooth, mean))) >> 10).clip(-L, L)
        hints = abs(near - average).sum(0) >> 2, abs(first - second), value.clip(0), 64, mean
        error, missed = (sum(a * b for a, b in zip(e, hints)) >> 10).clip(0), 0 * value
        zeros = 1 * seen.any(0) + zero.any(0) + (zero.any(0) & (zero == seen).all(0))
        for f, end in zip(t["bounds"], t["bounds"][1:]):
            own = error[:, f:end] * t["gains"][kind, f:end] >> 8
            v = missed[:, :f] @ t["channel_weights"][kind, f:end, :f].T >> 12
            v = (value[:, f:end] + v).clip(0, L)
            ratio = (256 * (abs(missed).sum(1) + 64) // (error[:, :f].sum(1) + 64)).clip(max=2048)
            u = r[0] * own + r[1] * (own * ratio[:, None] >> 8) + r[2] * v + r[3] * 64 >> 10
            s = np.frexp(u.clip(0) // 384)[1].clip(max=24)
            base, v, u = ((v >> s + 6) - 48).clip(0), np.digitize(v >> s, V), np.digitize(u >> s, U)
            c = t["classes"][t["shapes"][f:end], zeros[:, f:end], v, u]
            q = np.array([next(turn).symbols(models[i])[0] for i in c.flat], int).reshape(c.shape)
            sign = (q == R[c]) - 1 * ((q == 0) & (base > 0))
            low, widths = bits.fields(s.flat), bits.fields([5] * np.count_nonzero(sign))
            q[sign != 0] += sign[sign != 0] * ((1 << widths) + bits.fields(widths) - 1)
            k[at, f:end] = new = (base + q << s) + low.reshape(s.shape)
            assert ((new >= 0) & (new <= 1 << 30)).all()
            d[at, f:end] = t["tables.centroids"][c, new.clip(max=3)]
            missed[:, f:end] = 64 * new.clip(max=1 << 20) - value[:, f:end]
    return k[:-1, np.argsort(t["order"])], d[:-1, np.argsort(t["order"])], 0, 1


def decode(data, tables, profile=({}, {}), shape=None, grid=(), book=None):  # a session has a shape
    form, chunks, arrived, config, t = 4, [], {}, profile[0], tables["one_sided"] | profile[1]
    digest = bytes.fromhex(config.get("digest", "0000803f"))[:8]
    if shape:  # [3]
        n = int.from_bytes(Reader(data).take(2), "little")
        form, j, flags = n >> 14, (n & 4095) - 2048, (n >> 11 & 4) + (n >> 9 & 8)
        flags, n = flags + bool(config) + 2 * bool(grid), (*shape, 2 * j ^ j >> 12, *grid)
        n = [v >> s for v in n for s in (0, 7, 14, 21) if s == 0 or v >> s]
        data = b"FW\5%c" % flags + bytes(v & 127 | (v > 127) << 7 for v in n) + digest + data[2:]
    r = Reader(data)
    magic, flags = r.take(3), r.take(1)[0]  # [2.1]
    T, C, j = r.varint(1, 1 << 24), r.varint(1, 1 << 16), r.varint(-2048, 2047)
    height, width = (r.varint(1, T), r.varint(1, T)) if flags & 2 else (0, 1)
    named, trellis, midpoint, prefix = flags & 1, flags >> 2 & 1, flags >> 3, T - height * width
    who, channels = r.take(8 if named else 4), config.get("channels") if named else C
    assert magic == b"FW\5" and flags < 16 and T * C <= 1 << 28 and prefix >= 0 and C == channels
    assert who == digest if named else 0 < np.frombuffer(who, "<f4") < np.inf
    head, bound = data[: r.tell()], (1 << 18) + 10 * min(T * C, 1 << 22)
    while (at := r.tell()) < len(data):  # [2.2], [3]
        body = r.read() if form < 3 else r.take(r.varint(0, bound))
        assert form < 4 or zlib.crc32(head + data[at : r.tell()]).to_bytes(4, "little") == r.take(4)
        lead = 8 + 2 * form + 32 * (book is not None) + 16 * (body[:1] > b"\0")
        b = Reader(bytes([lead] * (form < 2)) + body[form < 2 and body[:1] == b"\0" :])  # [4]
        new, reset, adapts, raw, whole, columns, rows, plain = map(int, f"{b.take(1)[0]:08b}")
        first, tokens = (0, T) if whole else (b.varint(0, T - 1), b.varint(1, T))
        base, mode = (b.varint(-2048, 2048), None) if plain else (0, config.get("mode"))
        bits = Reader("".join(f"{v:08b}" for v in b.take(raw and b.varint(0, bound))).encode())
        size, m, part = tokens * C, tokens * (mode != "one-sided"), range(first, first + tokens)
        edges = range(prefix, T + 1, width) if height and mode in ROWS else range(T + 1)
        assert not new and reset <= adapts == (book is not None and not plain) and columns <= plain
        assert (first == 0 or first in edges) and part.stop in edges and (plain or named)  # [5]
        assert len(body) <= bound and size <= 1 << 22 and rows <= m and not arrived.keys() & part
        places, made, updates = book if adapts > reset and book else ([], 0, 0)  # [13]
        check = head + b.getvalue()[: b.tell()] + updates.to_bytes(8 * (updates > 0), "little")
        far = np.array([b.varint(-bound, bound) for n in (11, 14, 14) if size >> n], int)
        lanes = [*map(b.take, far + (len(b.getvalue()) - b.tell()) // (len(far) + 1)), b.read()]
        assert all(lane and lane[-1] for lane in lanes)
        lanes = [Reader((lane + bytes(-len(lane) % 4))[::-1]) for lane in lanes]
        words, f, row, inner, x = np.zeros(0, int), np.zeros(m, int), np.arange(m), ..., 0.0
        panel, cell, turn = f, np.array(part) - prefix, (lane for _ in part for lane in C * lanes)
        if mode == "codebook":  # [7.1], [13]; a place has its codeword, group, next age and count
            own, n, unit = t["group"], t["counts"], 2.0 ** (np.frexp(t["spreads"].min())[1] - 10)
            codes = t["codewords"] * t["scales"][own] / unit
            if adapts:
                start = np.minimum(np.rint(t["scales"] / unit * 65536), 2.0**40)[own]
                start = ((t["codewords"] * start + 32768) // 65536).clip(-(2**28), 2**28)
                places = places or [*zip(start, own, n.clip(max=31) + 1, n * 32768 // n.sum() + 1)]
                codes, own, _, n = map(np.array, zip(*places))
            table = 1 + n.astype(object) * ((1 << 24) - len(n)) // int(n.sum())
            table[0] += (1 << 24) - table.sum()
            panel = f = own[words := lanes[0].symbols(table, tokens)].astype(int)
            x = np.float32(codes[words] * unit)
        if mode == "dct":  # [5] what a block has at (u, v) is kept with the token that is there
            B, inner, lines = config["block"], cell >= 0, np.array([[height], [width]])
            bands, at = -(-lines // B), np.array(divmod(cell, width))
            cut = lines % bands * (lines // bands + 1)  # where the smaller ones begin
            h, w = lengths = np.where(inner, lines // bands + (at < cut), 1)
            u, v = at = (at - cut) % lengths
            assert (first == 0 or cell[0] > 0 == u[0]) and cell[-1] >= 0 and u[-1] + 1 == h[-1]
            panel, block = np.where(inner, -17 * h - w, -999), cell - u * width - v  # larger first
            row = np.unique_inverse(panel * 2**30 + block)[1]
            f = np.where(inner, u * B // h * B + v * B // w, B * B)
        rows = lanes[0].symbols(tables["row_exponents"], len({*row}) * rows) - 31
        columns = lanes[0].symbols(tables["column_exponents"], C * columns) - 31
        column, y, p = (f[:, None] * C + np.arange(C)).ravel(), row.repeat(C), panel.repeat(C)
        off = (t["offsets"] if mode else np.resize(columns, C))[column]
        group = (off + np.resize(rows, len(row))[y] + base - (j >> 3)).clip(0, 159)  # [5.1]
        order = np.lexsort((y, column, off, p) if trellis else (column, off, y, p, group))  # [5.2]
        s, radii = np.maximum(group - 60 >> 2, 0)[order], np.repeat(tables["radii"], 1 + trellis)
        own, q, Q, state = (group[order] - 4 * s) * (1 + trellis), 0 * s, 0 * s, 0 * row
        models = np.split(tables[("classes", "trellis")[trellis]], np.cumsum(2 * radii + 1)[:-1])
        for i, (c, y, fine) in enumerate(zip(own, y[order], trellis & (s == 0))):  # [6], [12]
            Q[i] = state[y] & fine
            q[i] = next(turn).symbols(models[c + Q[i]])[0] - radii[c]
            state[y] = NEXT[q[i] & 1][state[y]]
        edges, low = np.flatnonzero(abs(q) == radii[own]), bits.fields(s)
        widths = lanes[0].symbols(tables["escape_lengths"], len(edges))
        q[edges] += np.sign(q[edges]) * ((1 << widths) + bits.fields(widths) - 1)
        k = (q << s) + low - (1 << s >> 1)
        d = tables["trellis_" * trellis + "centroids"].reshape(-1, 4)[own + Q, abs(k).clip(max=3)]
        k, d, Q, sign = (a[np.argsort(order)].reshape(-1, C) for a in (k, d, Q, np.sign(k)))
        if mode == "one-sided":
            k, d, Q, sign = one_sided(t, j, cell, width, turn, bits)
        end = 1 << 24 | zlib.crc32(check) & 0xFFFFFF  # [4]
        assert {(lane.x, lane.read()) for lane in lanes} == {(end, b"")} and bits.read() in b"0" * 7
        residual = sign * (np.float32(abs(k)) + np.float32(d / 256 - Q / 2))  # [8.1]
        x = x + (sign * (np.float32(abs(k)) - Q / 2) if midpoint else residual) * 2 ** (j / 32)
        if mode not in (None, "one-sided"):  # [8.2]
            M = t.get("matrices", t.get("matrix", np.eye(C))).reshape(-1, C, C)
            M = t.get("weight_inverse", np.eye(C)).T @ M
            x[inner] = np.einsum("tic,tc->ti", M[f[inner] % len(M)], x[inner])
            if mode == "dct":
                D = np.cos(np.pi * at[:, :, None] * (2 * at[:, None] + 1) / (2 * lengths[:, None]))
                D = D * np.sqrt((2 - (at == 0)) / lengths)[:, :, None]
                x = (D.prod(0) * (block[:, None] == block)).T @ x
                x[~inner] += t["prefix_mean"] - t["mean"]
            x = x + t["mean"]
        assert np.isfinite(x := x.astype(np.float32)).all()
        arrived.update(zip(part, x))
        if adapts:  # [13]
            a = np.minimum(abs(residual), 2.0**32) * np.rint(2 ** (14 + j % 32 / 32))
            a = np.floor(a * 2.0 ** ((j >> 5) - 14) / unit + 0.5).clip(max=2**28)
            W = 2**22 // np.maximum(t["spreads"] // unit, 1)
            far = ((a * W[f] // 65536).clip(max=2**14) ** 2).sum(1) > np.floor(0.7 * C * 4096)
            at = np.where(far, len(t["counts"]) + (made + np.cumsum(far) - 1) % 4096, words)
            for p, token, g, new in zip(at, codes[words] + np.sign(residual) * a, f, far):
                code, own, age, n = (token, g, 1, 0) if new else places[p]
                code = code + ((token - code) * (65536 // age) + 32768) // 65536
                places[p : p + 1] = [(code.clip(-(2**28), 2**28), own, min(age + 1, 32), n + 64)]
            many = sum(count for *_, count in places) > 1 << 18
            book[:] = [(*p, n + many >> many) for *p, n in places], made + far.sum(), updates + 1
        chunks.append((words, rows, columns, k, panel, row, f))
    assert len(arrived) == T
    return chunks, np.stack([arrived[i] for i in range(T)])
