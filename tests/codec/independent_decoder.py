"""A decoder written from BITSTREAM.md alone, to show that it suffices: [n] names its sections."""

import hashlib
import json
import math
import zlib
from bisect import bisect_right
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

NEXT = ((0, 3, 5, 6, 1, 2, 4, 7), (1, 2, 4, 7, 0, 3, 5, 6))  # [12], by the parity of q


class Bad(Exception):
    """What the document says MUST be refused."""


def need(condition, what):
    if not condition:
        raise Bad(what)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        need(count <= len(self.data) - self.at, "cut short")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self, low, high, signed=False):
        value = 0
        for i in range(9):
            byte = self.take(1)[0]
            value |= (byte & 127) << 7 * i
            if byte < 128:
                value = (-(value & 1)) ^ (value >> 1) if signed else value
                need((byte or not i) and low <= value <= high, f"varint {value}")
                return value
        raise Bad("endless varint")


class Lane:  # [7]
    def __init__(self, data):
        need(data and data[-1], "a lane that is empty or ends in a zero byte")
        self.words, self.x = np.frombuffer(data + bytes(-len(data) % 4), "<u4").tolist(), 0
        self.refill()
        self.refill()

    def refill(self):
        if self.x < 1 << 32 and self.words:
            self.x = self.x << 32 | self.words.pop()

    def symbol(self, table):
        q = self.x & 0xFFFFFF
        s = bisect_right(table, q) - 1
        self.x = (self.x >> 24) * (table[s + 1] - table[s]) + q - table[s]
        self.refill()
        return s


class Profile:  # [10]
    def __init__(self, folder):
        config = json.loads((Path(folder) / "config.json").read_text())
        self.t = t = load_file(Path(folder) / "profile.safetensors")
        self.mode, self.channels, self.block = (config[k] for k in ("mode", "channels", "block"))
        digest, _ = config.pop("digest"), config.pop("report", None)
        sha = hashlib.sha256(json.dumps(config, sort_keys=True).encode("ascii"))
        for name in sorted(t):
            sha.update(f"{name} {t[name].dtype.str} {t[name].shape}".encode() + t[name].tobytes())
        need(sha.hexdigest() == digest and config["format"] == 2, "not the profile of its digest")
        self.digest = sha.digest()[:8]


class Header:  # [2.1]
    def __init__(self, r, profile):
        magic, flags = r.take(3), r.take(1)[0]
        need(magic == b"FW\2" and flags < 16, "magic, version or flags")
        self.tokens, self.channels = r.varint(1, 1 << 24), r.varint(1, 1 << 16)
        need(self.tokens * self.channels <= 1 << 28, "too many features")
        self.j, self.trellis, self.midpoint = r.varint(-2048, 2047, True), flags & 4, flags & 8
        self.grid = [r.varint(1, self.tokens), r.varint(1, self.tokens)] if flags & 2 else [0, 0]
        self.prefix, self.profile = self.tokens - math.prod(self.grid), None
        name = r.take(8 if flags & 1 else 4)
        if flags & 1:
            need(profile and name == profile.digest, "profile")
            need(profile.channels == self.channels, "channels of the profile")
            self.profile = profile
        good = flags & 1 or 0 < np.frombuffer(name, "<f4")[0] < np.inf
        need(self.prefix >= 0 and good, "grid or energy")
        self.bytes = r.data[: r.at]
        self.bound = (1 << 18) + 10 * min(self.tokens * self.channels, 1 << 22)


def file_bodies(r, h):
    while r.at < len(r.data):  # [2.2]
        start = r.at
        body = r.take(r.varint(0, h.bound))
        crc = zlib.crc32(r.data[start : r.at], zlib.crc32(h.bytes)).to_bytes(4, "little")
        need(r.take(4) == crc, "CRC-32")
        yield body


def session_bodies(r, h, form, adaptive):
    if form < 3:  # [3]
        body = r.take(len(r.data) - r.at)
        need(len(body) <= h.bound, "length of the message")
        yield body if form == 2 else bytes([8 + 2 * form + 32 * adaptive]) + body
    while r.at < len(r.data):
        yield r.take(r.varint(0, h.bound))


def session_header(lead, profile, shape, grid):
    def put(value):
        need(value >= 0, "shape")
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + put(value >> 7)

    flags, j = bool(profile) + 2 * bool(grid), (lead & 4095) - 2048
    flags += 4 * (lead >> 13 & 1) + 8 * (lead >> 12 & 1)
    numbers = b"".join(map(put, [*shape, 2 * j if j >= 0 else -2 * j - 1, *(grid or ())]))
    return b"FW\2" + bytes([flags]) + numbers + (profile.digest if profile else b"\0\0\x80\x3f")


def cuts(length, block):
    """[5] Bands (or strips): where they begin, and their sizes."""
    n = -(-length // block)
    sizes = [-(-length // n)] * (length % n) + [length // n] * (n - length % n)
    return [(sum(sizes[:i]), size) for i, size in enumerate(sizes)]


def layout(h, mode, first, tokens, groups):
    """[5] Of each panel: rows, columns, and its group, or height, width and corners of blocks."""
    channels = np.arange(h.channels)
    if mode == "codebook":
        return [
            (np.flatnonzero(groups == g), g * h.channels + channels, g)
            for g in sorted(set(groups.tolist()))
        ]
    if mode != "dct":
        return [(np.arange(tokens), channels, None)]
    need(h.grid[0], "no grid")
    b, (bands, strips) = h.profile.block, [cuts(n, h.profile.block) for n in h.grid]
    begin = [h.prefix * bool(y) + y * h.grid[1] for y, _ in bands]
    end = [h.prefix + (y + a) * h.grid[1] for y, a in bands]
    need(first in begin and first + tokens in end, "not whole bands")
    bands, rows = bands[begin.index(first) : end.index(first + tokens) + 1], 0
    panels, rows = [], 0
    if h.prefix and not first:
        panels, rows = [(np.arange(h.prefix), b * b * h.channels + channels, None)], h.prefix
    for a in sorted({size for _, size in bands}, reverse=True):
        for w in sorted({size for _, size in strips}, reverse=True):
            at = [(y - bands[0][0], x) for y, c in bands if c == a for x, d in strips if d == w]
            f = (np.arange(a) * b // a)[:, None] * b + np.arange(w) * b // w
            columns = (f[..., None] * h.channels + channels).ravel()
            panels.append((np.arange(rows, rows + len(at)), columns, (f, at)))
            rows += len(at)
    return panels


def symbols(h, tables, lanes, raw, panels, offsets, rows):
    """[5.1], [5.2], [6], [8], [12] Of each panel, three arrays: k, the centroid and Q."""
    order = []  # group, panel, row and column of each coefficient, in coding order
    for p, (r, c, _) in enumerate(panels):
        group = np.clip(offsets[c] + rows[r][:, None], 0, 159).tolist()
        by, n = np.argsort(offsets[c], kind="stable").tolist(), range(len(r))
        places = [(y, x) for x in by for y in n] if h.trellis else [(y, x) for y in n for x in by]
        order += [(group[y][x], p, y, x) for y, x in places]
    kind = "tables.trellis" if h.trellis else "tables."
    flat, radii = tables[kind + "classes" * (not h.trellis)], tables["tables.radii"].tolist()
    centroids = tables[kind + "_" * bool(h.trellis) + "centroids"].reshape(64, -1, 4)
    sizes = np.repeat(2 * np.array(radii) + 1, centroids.shape[1])
    classes = [sums(f) for f in np.split(flat, np.cumsum(sizes)[:-1])]
    state, found, edges = {}, [], {}
    if not h.trellis:
        order.sort(key=lambda entry: entry[0])
    for i, (g, p, y, _) in enumerate(order):
        s = max((g - 60) >> 2, 0)
        now, radius = state.get((p, y), 0), radii[g - 4 * s]
        quantiser = now & 1 if h.trellis and g < 64 else 0
        table = classes[(g - 4 * s) * centroids.shape[1] + quantiser]
        q = lanes[i % len(lanes)].symbol(table) - radius
        state[p, y] = NEXT[q & 1][now] if g < 64 else now
        edges.update({i: 0} if abs(q) == radius else {})
        found.append((q, s, centroids[g - 4 * s, quantiser].tolist(), quantiser))
    edges = {i: lanes[0].symbol(sums(tables["tables.escape_lengths"])) for i in edges}
    bits, at, tail = "".join(f"{byte:08b}" for byte in raw), 0, sum(s for _, s, _, _ in found)
    due = tail + sum(edges.values())
    need(len(raw) == -(-due // 8) and "1" not in bits[due:], "raw bits")
    out = [np.zeros((3, len(r), len(c)), np.int64) for r, c, _ in panels]
    for i, ((_, p, y, x), (q, s, d, quantiser)) in enumerate(zip(order, found, strict=True)):
        if i in edges:
            m = int("1" + bits[tail : tail + edges[i]], 2) - 1
            q, tail = q + (m if q > 0 else -m), tail + edges[i]
        k = (q << s) + int(bits[at : at + s] or "0", 2) - ((1 << s) >> 1)
        out[p][:, y, x], at = (k, d[min(abs(k), 3)], quantiser), at + s
    return out


def sums(frequencies, scale=1024):
    return [0, *np.cumsum(np.asarray(frequencies, np.int64) * scale).tolist()]


def dct(n):
    u, a = np.arange(n)[:, None], np.arange(n)
    return np.sqrt((2 - (u == 0)) / n) * np.cos(np.pi * u * (2 * a + 1) / (2 * n))


def inverse(h, mode, tokens, panels, ys, added):
    """[8.2] The values of a chunk; `added` are the values of its tokens' codewords."""
    x, t = np.zeros((tokens, h.channels)), h.profile.t if mode else {"mean": 0}
    for (rows, _, info), y in zip(panels, ys, strict=True):
        if mode == "dct" and info is None:
            x[rows] = y + t["prefix_mean"]
        elif mode == "dct":
            f, corners = info
            (a, w), m = f.shape, t["matrices"].astype(float)
            z = np.einsum("uvic,nuvc->nuvi", m[f * (len(m) > 1)], y.reshape(-1, a, w, h.channels))
            z[:, 0, 0] += math.sqrt(a * w) * t["mean"]
            z = np.einsum("ua,vb,nuvi->nabi", dct(a), dct(w), z)
            grid = x[(0 if panels[0][2] else h.prefix) :].reshape(-1, h.grid[1], h.channels)
            for block, (top, left) in zip(z, corners, strict=True):
                grid[top : top + a, left : left + w] = block
        else:
            m = {"klt": "matrix", "codebook": "matrices"}.get(mode)
            m = np.eye(h.channels) if m is None else t[m] if mode == "klt" else t[m][info]
            x[rows] = (y + added[rows]) @ m.astype(float).T + t["mean"]
    return x


def chunk(body, h, tables, arrived, book):
    """[4] One chunk: its symbols, and its values put where they belong in `arrived`."""
    r, first, tokens, base, raw, t = Reader(body), 0, h.tokens, 0, b"", h.profile and h.profile.t
    flags = r.take(1)[0]
    plain, has_rows, has_columns, whole, has_raw, adapts, reset = (flags >> i & 1 for i in range(7))
    need(flags < 128 and adapts >= reset and (plain or t), "flags, or no profile")
    need(adapts == (book is not None and not plain) and has_columns <= plain, "flags")
    if not whole:
        first = r.varint(0, h.tokens - 1)
        tokens = r.varint(1, h.tokens - first)
    n, mode = tokens * h.channels, None if plain else h.profile.mode
    need(n <= 1 << 22, "too many coefficients")
    need(not any(i in arrived for i in range(first, first + tokens)), "tokens come again")
    if plain:
        base = r.varint(-2048, 2048, True)
    if has_raw:
        raw = r.take(r.varint(0, len(body)))
    if reset:
        book.reset()
    updates = book.updates.to_bytes(8, "little") if adapts and book.updates else b""
    check = zlib.crc32(h.bytes + body[: r.at] + updates) & 0xFFFFFF
    lengths = [r.varint(1, len(body)) for _ in range((n >= 1 << 11) + 2 * (n >= 1 << 14))]
    lanes = [Lane(r.take(length)) for length in [*lengths, len(body) - r.at - sum(lengths)]]
    words = groups = np.zeros(0, int)
    added = np.zeros((tokens, 1))
    if mode == "codebook":
        counts = [int(c) for c in (book.count[: book.used] if adapts else t["counts"])]
        k, total = len(counts), sum(counts)
        f = [1 + c * ((1 << 24) - k) // total for c in counts]
        f[0] += (1 << 24) - sum(f)
        words = np.array([lanes[0].symbol(table) for table in [sums(f, 1)] * tokens])
        groups = (book.group if adapts else t["group"])[words].astype(int)
        added = (
            book.codes[words] * 2.0**book.q
            if adapts
            else t["codewords"][words] * t["scales"][groups]
        )
    panels = layout(h, mode, first, tokens, groups)
    count = sum(len(panel[0]) for panel in panels)
    table = sums(tables["tables.row_exponents"])
    rows = np.array([lanes[0].symbol(table) - 31 if has_rows else 0 for _ in range(count)])
    table = sums(tables["tables.column_exponents"])
    columns = [lanes[0].symbol(table) - 31 for _ in range(h.channels * has_columns)]
    offsets = t["offsets"] if mode else np.array(columns or [0] * h.channels)
    levels = rows + base - (h.j >> 3)
    out = symbols(h, tables, lanes, raw, panels, offsets, levels)
    need(all(lane.x == 1 << 24 | check and not lane.words for lane in lanes), "check")
    ys = [
        np.sign(k) * (abs(k) - q / 2 + d * (not h.midpoint) / 256) * 2.0 ** (h.j / 32)
        for k, d, q in out
    ]
    with np.errstate(all="ignore"):
        x = inverse(h, mode, tokens, panels, ys, added).astype(np.float32)
    need(np.isfinite(x).all(), "values beyond float32")
    arrived.update(zip(range(first, first + tokens), x, strict=True))
    if adapts:
        r = np.zeros((tokens, h.channels), np.int64)
        for (rows_, _, _), (k, d, q) in zip(panels, out, strict=True):
            a = abs(k).astype(np.float32) + (d / 256 - q / 2).astype(np.float32)
            r[rows_] = np.sign(k) * (a.astype(np.float32) * 256).astype(np.int64)
        book.update(h.j, words, r)
    return {"codewords": words, "row_exponents": rows, "column_exponents": columns} | {
        f"panel{i}": k for i, (k, _, _) in enumerate(out)
    }


def decode(data, profile_folder=None, session=None, tables=None):
    """The chunks (dictionaries of integers), and the values; `session`: shape, grid, book."""
    tables = load_file(tables)
    profile, r = Profile(profile_folder) if profile_folder else None, Reader(data)
    arrived, book = {}, (session or {}).get("book")
    if session:
        lead = int.from_bytes(r.take(2), "little")
        header = session_header(lead, profile, session["shape"], session.get("grid"))
        h = Header(Reader(header), profile)
        bodies = session_bodies(r, h, lead >> 14, book is not None)
    else:
        h = Header(r, profile)
        bodies = file_bodies(r, h)
    chunks = [chunk(body, h, tables, arrived, book) for body in bodies]
    need(len(arrived) == h.tokens, "tokens that never came")
    return chunks, np.stack([arrived[i] for i in range(h.tokens)])
