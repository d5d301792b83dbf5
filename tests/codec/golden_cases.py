"""The golden bitstreams, one for each mode: integers in, bytes out.

Each case starts from integers (indices, exponents, codewords), and its profile's floats are exact
in binary, so the bytes are the same on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from featurewire_codec import FeatureCodec, Profile, SessionCodec
from featurewire_codec.bitstream import Header, frame_chunk, write_body, write_header
from featurewire_codec.block_dct import BlockDct
from featurewire_codec.codebook import TokenCodebook
from featurewire_codec.coefficients import NO_EXPONENTS, Side, encode_symbols, plain_offsets
from featurewire_codec.entropy_model import GROUP_CLASS, GROUP_RAW_BITS
from featurewire_codec.one_sided_chunk import quantise_walk
from featurewire_codec.one_sided_transform import OneSided
from featurewire_codec.panels import PanelShape, to_symbols
from featurewire_codec.quantiser import step_size
from featurewire_codec.session_framing import header_of_session, write_lead
from featurewire_codec.span import Coding, Quantised
from featurewire_codec.tables import load_tables
from featurewire_codec.transform import (
    NO_INDEX,
    ChannelKlt,
    Geometry,
    Identity,
    Transform,
    plain_transform,
)
from featurewire_codec.trellis import NEXT_STATE, TrellisSymbols, raw_widths
from safetensors.numpy import save_file

GOLDEN = Path(__file__).parent / "golden"


def numbers(count: int, below: int, seed: int = 1) -> np.ndarray:
    """Return integers 0 .. below - 1 that look random: a linear congruential generator."""
    state, out = seed, []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        out.append((state >> 8) % below)
    return np.array(out, np.int32)


def mirror(normal: Sequence[int]) -> np.ndarray:
    """Return a Householder reflection; exact when the normal's square is a power of two."""
    vector = np.array(normal, np.float32)
    square = float(vector @ vector)
    assert square == 2 ** round(np.log2(square))
    return np.eye(len(vector), dtype=np.float32) - np.outer(vector, vector) * np.float32(2 / square)


def to_trellis_symbols(
    indices: Sequence[np.ndarray], panels: Sequence[PanelShape], radii: np.ndarray
) -> TrellisSymbols:
    """Bring indices [rows, columns in coding order] of each panel into trellis order."""
    symbols, tables, low, excess = [], [], [], []
    for matrix, (ladder, shifts) in zip(indices, panels, strict=True):
        groups, states = ladder.groups(shifts), np.zeros(len(shifts), int)
        for column in range(ladder.columns):
            for row in range(len(shifts)):
                group = groups[row, column]
                raw, own = int(GROUP_RAW_BITS[group]), int(GROUP_CLASS[group])
                lifted = int(matrix[row, column]) + ((1 << raw) >> 1)
                coarse, radius = lifted >> raw, int(radii[own])
                low.append(lifted - (coarse << raw))
                if abs(coarse) >= radius:
                    excess.append(abs(coarse) - radius)
                    coarse = radius if coarse > 0 else -radius
                symbols.append(coarse + radius)
                tables.append(2 * own + (0 if raw else states[row] & 1))
                if not raw:
                    states[row] = NEXT_STATE[states[row], coarse & 1]
    widths = raw_widths(panels)
    return TrellisSymbols(
        np.array(symbols, np.uint8),
        np.array(tables, np.uint8),
        np.array(low if len(widths) else [], np.int32),
        widths,
        np.array(excess, np.int64),
    )


@dataclass
class Span:
    """One chunk: its tokens, what it sends beside them, and the indices of each panel.

    Of a panel, int64[rows, columns]; columns in their own order, not the coding order. A session's
    message begins at token 0, and may have a header of its own; before it the codewords may be
    reset.
    """

    tokens: range
    side: Side
    indices: list[np.ndarray]
    header: Header | None = None
    reset: bool = False


@dataclass
class Case:
    """One golden bitstream, and what decodes it."""

    name: str
    header: Header
    spans: list[Span]
    profile: Profile | None = None
    profile_name: str | None = None
    framing: str = "file"

    def encode(self) -> bytes:
        return b"".join(self.messages())

    def messages(self) -> list[bytes]:
        """Return the file, or the session's messages."""
        coding = Coding(self.profile, self.header.adaptive) if self.profile else None
        if self.framing == "file":
            head = write_header(self.header)
            bodies = [b"".join(self.code(span, self.header, coding)) for span in self.spans]
            return [head + b"".join(frame_chunk(body, head) for body in bodies)]
        messages = []
        for span in self.spans:
            if span.reset and coding is not None:
                coding.reset()
            header = header_of_session(span.header or self.header)
            fields, body = self.code(span, header, coding)
            written = write_lead(header, span.tokens, fields, body)
            if span.tokens.start == 0:
                messages.append(b"")
            messages[-1] += written
        return messages

    def code(self, span: Span, header: Header, coding: Coding | None) -> tuple[bytes, bytes]:
        """Return a chunk's fields, and what follows them."""
        side, head = span.side, write_header(header)
        transform: Transform = plain_transform(header.channels)
        offsets, table = plain_offsets(header.channels, side.column_exponents), None
        updates = 0
        if not side.plain:
            assert coding is not None
            transform, offsets, table = coding.transform, coding.offsets, coding.index_table
            updates = coding.updates
        geometry = Geometry(header.tokens, header.channels, header.grid)
        if isinstance(transform, OneSided):
            step = np.float32(step_size(header.step_exponent))
            values = span.indices[0].astype(np.float32) * step
            walked = transform.walk(geometry, span.tokens, offsets.offsets, header.step_exponent)
            assert walked is not None
            rectified, _ = quantise_walk(values, walked, walked.weights.thresholds(None))
            chunk, fields = encode_symbols(span.tokens, rectified, side, None, header, head, 0)
            return fields, write_body(chunk)
        layout = transform.layout(geometry, span.tokens, side.index)
        assert layout is not None
        panels = offsets.panels(layout, side.shifts(header.step_exponent))
        ordered = [
            ladder.in_order(np.ascontiguousarray(indices))
            for indices, (ladder, _) in zip(span.indices, panels, strict=True)
        ]
        to_coded = to_trellis_symbols if header.trellis else to_symbols
        coded = to_coded(ordered, panels, load_tables().radii)
        chunk, fields = encode_symbols(span.tokens, coded, side, table, header, head, updates)
        if coding is not None and not side.plain:
            coding.learn(Quantised(coded, side, panels), header.step_exponent)
        return fields, write_body(chunk)

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"framing": self.framing, "profile": self.profile_name}
        if self.framing == "session":
            facts["shape"] = [self.header.tokens, self.header.channels]
            facts["grid"] = self.header.grid and list(self.header.grid)
            facts["adaptive"] = self.header.adaptive
        starts = [span for span in self.spans if span.tokens.start == 0]
        if self.framing == "session" and len(starts) > 1:
            facts["bytes"] = [len(message) for message in self.messages()]
            facts["tokens"] = [(span.header or self.header).tokens for span in starts]
        return facts

    def decode(self) -> np.ndarray:
        codec = FeatureCodec(self.profile, framing=self.framing)
        if self.header.adaptive:
            assert self.profile is not None
            codec = SessionCodec(self.profile)
        if self.framing == "file":
            return codec.decode(self.encode()).numpy()
        starts, grid = [span for span in self.spans if span.tokens.start == 0], self.header.grid
        values = []
        for span, message in zip(starts, self.messages(), strict=True):
            shape = (span.header or self.header).tokens, self.header.channels
            values.append(codec.decode(message, shape=shape, grid=grid).numpy())
        return np.concatenate(values)

    def write(self) -> None:
        """Write the bitstream, and the integers and values that it decodes to."""
        (GOLDEN / f"{self.name}.fw").write_bytes(self.encode())
        tensors = {"values": self.decode()}
        for number, span in enumerate(self.spans):
            side = span.side
            for place, indices in enumerate(span.indices):
                tensors[f"chunk{number}.panel{place}"] = indices.astype(np.int64)
            tensors[f"chunk{number}.codewords"] = side.index
            tensors[f"chunk{number}.row_exponents"] = side.row_exponents
            tensors[f"chunk{number}.column_exponents"] = side.column_exponents
        save_file(tensors, GOLDEN / f"{self.name}.safetensors")


def side_of(
    rows: np.ndarray | int,
    *,
    plain: bool = False,
    base: int = 0,
    index: np.ndarray = NO_INDEX,
    columns: np.ndarray = NO_EXPONENTS,
) -> Side:
    """Return a chunk's side information; `rows` are the row exponents, or how many zeros."""
    exponents = np.zeros(rows, np.int32) if isinstance(rows, int) else rows.astype(np.int32)
    return Side(plain, base, index.astype(np.int32), exponents, columns.astype(np.int32))


def profile_of(name: str, transform: Transform, offsets: np.ndarray) -> Profile:
    steps = np.array([32, 0, -32], np.int32)
    offsets = offsets.astype(np.int32)
    profile = Profile(transform, 1.0, offsets, steps, np.array([4.0, 10.0, 16.0]), {})
    profile.save_pretrained(GOLDEN / f"{name}.profile")
    return profile


def digest_of(profile: Profile) -> bytes:
    return bytes.fromhex(profile.digest)[:8]


def small(rows: int, columns: int, seed: int, most: int = 4) -> np.ndarray:
    """Return indices int64[rows, columns] within -most .. most, mostly near zero."""
    drawn = numbers(2 * rows * columns, most + 1, seed).reshape(2, rows, columns)
    return (drawn[0] - drawn[1]).astype(np.int64)


def worked() -> Case:
    """The example worked in BITSTREAM.md: two tokens of three channels, plain, at a step of 1."""
    indices = np.array([[1, 0, -2], [0, 25, -1]], np.int64)
    span = Span(range(2), side_of(2, plain=True, base=48), [indices])
    return Case("worked", Header(2, 3, 0, None, None, 1.0), [span])


def plain() -> Case:
    """Row and column exponents, and two chunks."""
    channels, spans = 24, []
    for tokens in (range(5), range(5, 12)):
        side = side_of(
            2 * (numbers(len(tokens), 5) - 2),
            plain=True,
            base=45,
            columns=numbers(channels, 63, 7) - 31,
        )
        spans.append(Span(tokens, side, [small(len(tokens), channels, tokens.stop)]))
    return Case("plain", Header(12, channels, -45, None, None, 0.25), spans)


def midpoint() -> Case:
    """Values rebuilt without centroids."""
    span = Span(range(3), side_of(3, plain=True, base=50), [small(3, 5, 3, most=6)])
    return Case("midpoint", Header(3, 5, 16, None, None, 2.0, midpoint=True), [span])


def identity() -> Case:
    """Every group, levels beyond both ends, raw low bits, escapes up to the longest."""
    channels, step_exponent = 172, 37
    offsets = np.roll(np.arange(channels) - 2, 60)  # not sorted: levels -6 .. 165 and more
    profile = profile_of("identity", Identity(np.arange(channels, dtype=np.float32) / 4), offsets)
    rows = np.array([0, 2, -4, 31, -31])
    level = offsets + rows[:, None] - (step_exponent >> 3)
    raw = np.clip((level - 60) >> 2, 0, 24)
    indices = (small(5, channels, 5, most=14) << raw) + numbers(5 * channels, 9, 6).reshape(5, -1)
    indices = np.where((numbers(5 * channels, 7, 9) == 0).reshape(5, -1), 40 << raw, indices)
    for row, column, excess in ((0, 60, 2**30), (1, 61, -(2**30)), (2, 7, 2**32 + 2), (4, 9, -70)):
        indices[row, column] = excess
    level_of_last = int(level[3].argmax())
    indices[3, level_of_last] = (2**32 + 100) << 24  # the largest that 64 bits must hold
    header = Header(5, channels, step_exponent, None, digest_of(profile), None)
    span = Span(range(5), side_of(rows), [indices])
    return Case("identity", header, [span], profile, "identity")


def klt_profile() -> Profile:
    mean = np.array([1, -2, 0.5, 0, 3, 0, 0, 8], np.float32)
    matrix = mirror([1, 1, 1, 1, 2, 2, 2, 0])
    return profile_of("klt", ChannelKlt(mean, matrix), np.array([30, 40, 44, 44, 48, 52, 56, 70]))


def klt(profile: Profile) -> Case:
    """A Karhunen-Loeve transform, and a plain chunk amid its own: the fall-back."""
    spans = [
        Span(range(3), side_of(np.array([4, -2, 0])), [small(3, 8, 2)]),
        Span(range(3, 5), side_of(2, plain=True, base=46), [small(2, 8, 3)]),
        Span(range(5, 9), side_of(4), [small(4, 8, 4)]),
    ]
    header = Header(9, 8, -10, None, digest_of(profile), None)
    return Case("klt", header, spans, profile, "klt")


def dct() -> Case:
    """Blocks of four sizes and prefix tokens in one chunk; a matrix for each frequency."""
    channels, block, geometry = 4, 4, Geometry(2 + 7 * 5, 4, (7, 5))
    turns = [np.roll(mirror([1, 1, 1, 1] if n % 2 else [0, 1, 1, 0]), n, axis=1) for n in range(16)]
    mean, prefix_mean = np.float32([1, 2, 3, 4]), np.float32([-1, 0, 1, 2])
    transform = BlockDct(mean, prefix_mean, np.stack(turns), block)
    profile = profile_of("dct", transform, 50 - numbers(transform.columns, 16))
    layout = transform.layout(geometry, range(geometry.tokens))
    assert layout is not None
    indices = [small(len(p.rows), len(p.columns), n + 1) for n, p in enumerate(layout.panels)]
    rows = 2 * (numbers(layout.rows, 3, 8) - 1)
    header = Header(geometry.tokens, channels, 0, geometry.grid, digest_of(profile), None)
    span = Span(range(geometry.tokens), side_of(rows), indices)
    return Case("dct", header, [span], profile, "dct")


def dct_bands() -> Case:
    """A chunk for each band of blocks, last one first; one matrix for all frequencies."""
    channels, block, geometry = 2, 3, Geometry(1 + 8 * 3, 2, (8, 3))
    mean, prefix_mean = np.float32([0.5, -1]), np.float32([4, 0])
    transform = BlockDct(mean, prefix_mean, mirror([1, 1])[None], block)
    profile = profile_of("dct_bands", transform, 46 + numbers(transform.columns, 9))
    spans = []
    for tokens in reversed(transform.spans(geometry, features=1)):
        layout = transform.layout(geometry, tokens)
        assert layout is not None
        indices = [small(len(p.rows), len(p.columns), tokens.stop) for p in layout.panels]
        spans.append(Span(tokens, side_of(layout.rows), indices))
    header = Header(geometry.tokens, channels, 32, geometry.grid, digest_of(profile), None)
    return Case("dct_bands", header, spans, profile, "dct_bands")


def codebook() -> Case:
    """Two groups of codewords; one chunk has tokens of both, the next of the second only."""
    channels = 4
    transform = TokenCodebook(
        mean=np.float32([1, 0, -1, 0.5]),
        matrices=np.stack([mirror([1, 1, 1, 1]), mirror([0, 1, 0, 1])]),
        spreads=np.ones((2, channels), np.float32),
        codewords=(numbers(5 * channels, 255) - 127).reshape(5, channels).astype(np.int8),
        scales=np.float32([[0.25, 0.5, 0.125, 1], [1, 0.0625, 0.5, 0.25]]),
        group=np.array([1, 0, 1, 0, 1], np.uint8),
        counts=np.array([1000, 77, 3, 0, 12], np.int64),
    )
    profile = profile_of("codebook", transform, np.array([60, 52, 48, 40, 44, 57, 41, 33]))
    spans = []
    for tokens, index in (
        (range(6), np.array([0, 3, 1, 0, 4, 2])),
        (range(6, 9), np.array([2, 0, 0])),
    ):
        layout = transform.layout(Geometry(9, channels), tokens, index.astype(np.int32))
        indices = [
            small(len(p.rows), channels, tokens.stop + n) for n, p in enumerate(layout.panels)
        ]
        rows = np.where(index == 0, 2, -2)
        spans.append(Span(tokens, side_of(rows, index=index), indices))
    header = Header(9, channels, -20, None, digest_of(profile), None)
    return Case("codebook", header, spans, profile, "codebook")


def lanes() -> Case:
    """Four lanes, the runs of their classes at any place; raw bits and escapes in all of them."""
    tokens, channels = 128, 130
    columns = np.sort(numbers(channels, 20, 4) - 29)
    columns[[3, 60, 61]] = [31, 30, 22]
    columns[100:103] = 5
    indices = small(tokens, channels, 2, most=2) * (numbers(tokens * channels, 40) == 0).reshape(
        tokens, -1
    )
    indices[:, [3, 60, 61]] += small(tokens, 3, 11, most=60)
    indices[[5, 17, 90], [101, 102, 60]] = [400, -900, 70000]
    rows = np.where(numbers(tokens, 6, 3) == 0, 4, 0)
    span = Span(range(tokens), side_of(rows, plain=True, base=36, columns=columns), [indices])
    return Case("lanes", Header(tokens, channels, 5, None, None, 1.0), [span])


def sessions(profile: Profile) -> list[Case]:
    """The four forms of a session's bitstream."""

    def case(name: str, tokens: int, spans: list[Span], own: bool = True) -> Case:
        digest = digest_of(profile) if own else None
        header = Header(tokens, 8, -7, None, digest, None if own else 3.0, midpoint=not own)
        used = (profile, "klt") if own else (None, None)
        return Case(f"session_{name}", header, spans, *used, framing="session")

    escaping = small(1, 8, 6)
    escaping[0, 2] = 99
    return [
        case("bare", 2, [Span(range(2), side_of(2), [small(2, 8, 1)])]),
        case("bare_rows", 2, [Span(range(2), side_of(np.array([2, 6])), [small(2, 8, 2)])]),
        case("fields", 1, [Span(range(1), side_of(1, plain=True, base=49), [escaping])], own=False),
        case(
            "framed",
            5,
            [
                Span(range(3), side_of(3), [small(3, 8, 3)]),
                Span(range(3, 5), side_of(2, plain=True, base=44), [small(2, 8, 4)]),
            ],
        ),
    ]


def two_lanes() -> Case:
    """Two lanes, and a column exponent at each end."""
    columns = np.zeros(32, np.int32)
    columns[[0, 31]] = [31, -31]
    indices = small(64, 32, 12, most=1) * (numbers(64 * 32, 9, 5) == 0).reshape(64, -1)
    span = Span(range(64), side_of(64, plain=True, base=38, columns=columns), [indices])
    return Case("two_lanes", Header(64, 32, 0, None, None, 1.0), [span])


def trellis() -> Case:
    """A trellis over several rows and two panels, with raw bits, escapes and a plain chunk."""
    channels = 6
    transform = TokenCodebook(
        mean=np.zeros(channels, np.float32),
        matrices=np.stack([np.eye(channels, dtype=np.float32), mirror([1, 1, 0, 0, 1, 1])]),
        spreads=np.ones((2, channels), np.float32),
        codewords=(numbers(3 * channels, 255, 3) - 127).reshape(3, channels).astype(np.int8),
        scales=np.full((2, channels), 0.25, np.float32),
        group=np.array([0, 1, 1], np.uint8),
        counts=np.array([5, 4, 3], np.int64),
    )
    offsets = np.array([49, 44, 70, 52, 44, 61, 80, 48, 47, 56, 48, 40])
    profile = profile_of("trellis", transform, offsets)
    spans = []
    index = np.array([1, 0, 2, 2, 0])
    layout = transform.layout(Geometry(8, channels), range(5), index.astype(np.int32))
    indices = [small(len(panel.rows), channels, 21 + n, 5) for n, panel in enumerate(layout.panels)]
    indices[0][:, 2] *= 9  # these two have raw bits
    indices[1][:, 0] *= 40
    indices[0][1, 4] = 33
    indices[1][2, 1] = -70
    spans.append(Span(range(5), side_of(np.array([2, 0, -2, 0, 4]), index=index), indices))
    spans.append(Span(range(5, 8), side_of(3, plain=True, base=50), [small(3, channels, 30, 6)]))
    header = Header(8, channels, 9, None, digest_of(profile), None, trellis=True)
    return Case("trellis", header, spans, profile, "trellis")


def adaptive(codebook_case: Case) -> Case:
    """A session whose codewords adapt: the second chunk is coded by what the first taught."""
    profile, channels = codebook_case.profile, 4
    assert profile is not None
    spans = []
    for tokens, index in (
        (range(3), np.array([0, 1, 4])),
        (range(3, 6), np.array([5, 0, 6])),  # codewords that the first chunk has made
        (range(6, 7), np.array([2])),
    ):
        group = profile.transform.group if tokens.start != 3 else np.uint8([1, 0, 1, 0, 1, 1, 0])
        panels = [np.flatnonzero(group[index] == number) for number in np.unique(group[index])]
        far = 30 if tokens.start == 0 else 3
        indices = [
            small(len(rows), channels, tokens.stop + n, far) for n, rows in enumerate(panels)
        ]
        spans.append(Span(tokens, side_of(len(index), index=index), indices))
    header = Header(7, channels, 40, None, digest_of(profile), None, adaptive=True)
    return Case("session_adaptive", header, spans, profile, "codebook", framing="session")


def make_cases() -> list[Case]:
    profile, books = klt_profile(), codebook()
    alone = [worked(), plain(), midpoint(), identity(), klt(profile), dct(), dct_bands()]
    more = [books, two_lanes(), lanes(), trellis()]
    return [*alone, *more, *sessions(profile), adaptive(books)]
