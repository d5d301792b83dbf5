"""The golden bad bitstreams: one for each rule of BITSTREAM.md that bytes can break.

Each is right in all but one thing: its CRC and its check are those of the bytes that it has.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from featurewire_codec import Profile
from featurewire_codec.block_dct import BlockDct
from featurewire_codec.coefficients import class_models
from featurewire_codec.cursor import signed_varint, varint
from featurewire_codec.entropy_coder import Encoder
from featurewire_codec.transform import Identity
from golden_cases import Case, digest_of, profile_of

PLAIN, ROWS, COLUMNS, WHOLE, RAW = 1, 2, 4, 8, 16
BITSTREAM, CHUNK, PROFILE = "BitstreamError", "ChunkError", "ProfileError"
CLASS = 48  # of a plain coefficient at base 48 and a step of 1


@dataclass
class Bad:
    """A bitstream, the error that it must raise, and a part of its message."""

    name: str
    data: bytes
    error: str
    message: str
    profile: str | None = None
    framing: str = "file"
    shape: tuple[int, int] | None = None
    adaptive: bool = False

    def facts(self) -> dict[str, Any]:
        facts = {"error": self.error, "message": self.message, "framing": self.framing}
        facts |= {"profile": self.profile, "shape": self.shape, "grid": None}
        return facts | {"adaptive": self.adaptive}


def header(
    tokens: int = 1,
    channels: int = 1,
    *,
    start: bytes = b"FW\x05",
    flags: int = 0,
    j: int = 0,
    grid: tuple[int, int] | None = None,
    tail: bytes = struct.pack("<f", 1.0),
) -> bytes:
    parts = [start, bytes([flags | 2 * (grid is not None)]), varint(tokens), varint(channels)]
    return b"".join([*parts, signed_varint(j), *(varint(side) for side in grid or ()), tail])


def frame(body: bytes, head: bytes) -> bytes:
    framed = varint(len(body)) + body
    return framed + struct.pack("<I", zlib.crc32(head + framed))


def check(fields: bytes, head: bytes) -> int:
    return zlib.crc32(head + fields) & 0xFFFFFF


def lane(fields: bytes, head: bytes, *runs: tuple[list[int], Any]) -> bytes:
    """Return the words of one lane that decodes to runs of symbols with their tables."""
    encoder = Encoder(1, check(fields, head), ())
    for symbols, table in reversed(runs):
        encoder.push(np.array(symbols, np.int32), table)
    return encoder.words()[0].astype("<u4").tobytes().rstrip(b"\0")


def zeros(fields: bytes, head: bytes, count: int = 1) -> bytes:
    """Return the words of `count` plain indices of zero at base 48."""
    table = class_models().classes[CLASS]
    return lane(fields, head, ([len(table.frequencies) // 2] * count, table))


def escape(fields: bytes, head: bytes, length: int) -> bytes:
    """Return the words of one escape whose m + 1 has so many bits."""
    models = class_models()
    return lane(fields, head, ([0], models.classes[CLASS]), ([length - 1], models.escape_lengths))


def one(fields: bytes, words: Any, head: bytes) -> bytes:
    """Return a bitstream of one chunk; `words` makes its words."""
    made = words if isinstance(words, bytes) else words(fields, head)
    return head + frame(fields + made, head)


def good() -> bytes:
    """Return the smallest right bitstream: one plain zero."""
    return one(FIELDS, zeros, header())


FIELDS = bytes([PLAIN | WHOLE]) + signed_varint(48)


def header_rules() -> list[Bad]:
    def bad(name: str, data: bytes, message: str) -> Bad:
        return Bad(f"header_{name}", data, BITSTREAM, message)

    energies = {"zero": 0.0, "negative": -1.0, "nan": float("nan"), "infinite": float("inf")}
    return [
        bad("empty", b"", "ends in its header"),
        bad("magic", b"PK" + good()[2:], "begins with"),
        bad("version_4", b"FW\x04" + good()[3:], "version 4"),
        bad("version_6", b"FW\x06" + good()[3:], "version 6"),
        *(bad(f"flag_{bit}", header(flags=1 << bit), "reserved flags") for bit in (4, 5, 6, 7)),
        bad("cut", header()[:-1], "ends in its header"),
        bad("no_tokens", header(0, 3), "shape 0 x 3"),
        bad("no_channels", header(3, 0), "shape 3 x 0"),
        bad("tokens", header(2**24 + 1, 1), "number of tokens is 16777217"),
        bad("channels", header(1, 2**16 + 1), "number of channels is 65537"),
        bad("features", header(2**24, 17), "not within"),
        bad("varint_long", b"FW\x05\x00\x81\x00\x01\x00" + bytes(4), "number of tokens"),
        bad("varint_endless", b"FW\x05\x00" + b"\xff" * 12, "not a variable-length integer"),
        bad("step_coarse", header(j=2048), "step exponent is 2048"),
        bad("step_fine", header(j=-2049), "step exponent is -2049"),
        bad("grid_empty", header(4, 1, grid=(0, 2)), "grid of 0 x 2"),
        bad("grid_large", header(4, 1, grid=(2, 3)), "grid of 2 x 3"),
        *(
            bad(f"energy_{name}", header(tail=struct.pack("<f", value)), "energy")
            for name, value in energies.items()
        ),
    ]


def complete_rules(profiles: dict[str, Profile]) -> list[Bad]:
    """Header rules broken where all that follows is right: nothing else refuses these."""

    def bad(name: str, head: bytes, message: str, level: int = 48, **more: Any) -> Bad:
        data = one(bytes([PLAIN | WHOLE]) + signed_varint(level), zeros, head)
        return Bad(f"complete_{name}", data, BITSTREAM, message, **more)

    energies = {"zero": 0.0, "negative": -1.0, "nan": float("nan"), "infinite": float("inf")}
    wide = profiles["klt"]
    long_varint = b"FW\x05\x00\x81\x00\x01\x00" + struct.pack("<f", 1.0)
    head, body = header(), FIELDS + zeros(FIELDS, header())
    framed = bytes([len(body) | 0x80, 0]) + body
    crc = struct.pack("<I", zlib.crc32(head + framed))
    return [
        bad("magic", header(start=b"FX\x02"), "begins with"),
        bad("version_4", header(start=b"FW\x04"), "version 4"),
        bad("version_6", header(start=b"FW\x06"), "version 6"),
        *(bad(f"flag_{bit}", header(flags=1 << bit), "reserved flags") for bit in (4, 5, 6, 7)),
        *(
            bad(f"energy_{name}", header(tail=struct.pack("<f", value)), "energy")
            for name, value in energies.items()
        ),
        bad("varint_long", long_varint, "number of tokens"),
        bad("grid_large", header(grid=(1, 2)), "grid of 1 x 2"),
        bad("step_coarse", header(j=2048), "step exponent is 2048", level=304),
        bad("step_fine", header(j=-2049), "step exponent is -2049", level=-209),
        bad(
            "profile_width",
            header(flags=1, tail=digest_of(wide)),
            "1 channels, its profile 8",
            profile="klt",
        ),
        Bad(
            "complete_profile_another",
            one(FIELDS, zeros, header(1, 4, flags=1, tail=digest_of(wide))),
            PROFILE,
            "this is",
            "dct",
        ),
        Bad("complete_chunk_length_long", head + framed + crc, BITSTREAM, "bytes in a chunk"),
    ]


def complete_field_rules(profiles: dict[str, Profile]) -> list[Bad]:
    """Rules of a chunk broken where all that follows is right."""
    models = class_models()

    def bad(name: str, fields: bytes, words: Any, message: str) -> Bad:
        return Bad(f"complete_{name}", one(fields, words, header()), CHUNK, message)

    def zero_of(group: int) -> Any:
        table = models.classes[group]
        run = [len(table.frequencies) // 2], table
        return lambda fields, head: lane(fields, head, run)

    base, middle = signed_varint(48), b"\x03\x80\x00\x00"  # raw bits of an index of zero
    huge, columns = profiles["huge"], bytes([WHOLE | COLUMNS | RAW]) + middle
    far = header(flags=1, tail=digest_of(huge))
    largest = models.classes[63]
    runs = ([31], models.columns), ([len(largest.frequencies) // 2], largest)
    unused = far + frame(columns + lane(columns, far, *runs), far)
    return [
        *(
            bad(f"field_flag_{bit}", bytes([PLAIN | WHOLE | 1 << bit]) + base, zeros, "flags that")
            for bit in (5, 6, 7)
        ),
        bad(
            "base_high",
            bytes([PLAIN | WHOLE | RAW]) + signed_varint(2049) + middle,
            zero_of(63),
            "base level is 2049",
        ),
        bad(
            "base_low",
            bytes([PLAIN | WHOLE]) + signed_varint(-2049),
            zero_of(0),
            "base level is -2049",
        ),
        bad("lane_zero", FIELDS, lambda *of: zeros(*of) + b"\0", "empty or ends in a zero byte"),
        Bad("complete_columns_not_plain", unused, CHUNK, "column exponents", "huge"),
    ]


def band_rules() -> list[Bad]:
    """Two chunks that do not meet where a band begins; all of their coefficients have one table."""
    zero, matrix = np.zeros(1, np.float32), np.ones((1, 1, 1), np.float32)
    transform = BlockDct(zero, zero, matrix, 2)
    profile = profile_of("even", transform, np.full(transform.columns, CLASS))
    head = header(2 + 4 * 3, 1, flags=1, grid=(4, 3), tail=digest_of(profile))
    cuts = {"in_the_prefix": 1, "at_the_grid": 2, "in_a_line": 6, "in_a_band": 5}
    bad = []
    for name, cut in cuts.items():
        data = head
        for first, tokens in ((0, cut), (cut, 14 - cut)):
            fields = bytes([0, first, tokens])
            data += frame(fields + zeros(fields, head, tokens), head)
        bad.append(Bad(f"bands_{name}", data, CHUNK, "bands of blocks", "even"))
    return bad


def framing_rules() -> list[Bad]:
    head, whole = header(), good()
    crc = whole[:-1] + bytes([whole[-1] ^ 1])
    two = header(2, 1)
    first = bytes([PLAIN, 0, 1]) + signed_varint(48)
    half = two + frame(first + zeros(first, two), two)
    limit = 2**18 + 10
    return [
        Bad("chunk_missing", head, BITSTREAM, "1 of 1 tokens miss"),
        Bad("chunk_cut", whole[:-1], BITSTREAM, "1 of 1 tokens miss"),
        Bad("tokens_missing", half, BITSTREAM, "1 of 2 tokens miss"),
        Bad("bytes_left", whole + b"\x05", BITSTREAM, "1 bytes follow"),
        Bad("chunk_length", head + varint(limit + 1), BITSTREAM, "bytes in a chunk is 262155"),
        Bad("chunk_length_long", head + b"\x86\x00" + whole[12:], BITSTREAM, "bytes in a chunk"),
        Bad("chunk_crc", crc, CHUNK, "CRC-32"),
        Bad("chunk_of_another_header", header(j=1) + whole[len(head) :], CHUNK, "CRC-32"),
    ]


def field_rules() -> list[Bad]:
    def bad(name: str, fields: bytes, message: str, *shape: int, words: Any = b"\x01") -> Bad:
        return Bad(f"field_{name}", one(fields, words, header(*(shape or (1, 1)))), CHUNK, message)

    base = signed_varint(48)
    repeated = bytes([PLAIN, 0, 1]) + base
    two = header(2, 1)
    twice = 2 * frame(repeated + zeros(repeated, two), two)
    overlapping = FIELDS + zeros(FIELDS, two, 2)
    return [
        *(
            bad(f"flag_{bit}", bytes([PLAIN | WHOLE | 1 << bit]) + base, "flags that none has")
            for bit in (5, 6, 7)
        ),
        bad("reset_alone", bytes([WHOLE | 64]), "flags that none has"),
        Bad("field_none", one(b"", b"", header()), CHUNK, "ends inside its fields"),
        bad("cut", bytes([PLAIN | WHOLE]), "ends inside its fields", words=b""),
        bad("first_token", bytes([PLAIN, 2, 1]) + base, "first token of a chunk is 2", 2, 1),
        bad("token_count", bytes([PLAIN, 1, 2]) + base, "tokens in a chunk is 2", 2, 1),
        bad("no_tokens", bytes([PLAIN, 0, 0]) + base, "chunk of 0 tokens", 2, 1),
        bad("too_many", bytes([PLAIN | WHOLE]) + base, "not within 1 to 4194304", 2**22 + 1, 1),
        bad("base_high", bytes([PLAIN | WHOLE]) + signed_varint(2049), "base level is 2049"),
        bad("base_low", bytes([PLAIN | WHOLE]) + signed_varint(-2049), "base level is -2049"),
        bad("raw_cut", bytes([PLAIN | WHOLE | RAW]) + base + b"\x02", "ends inside its fields"),
        bad("raw_long", bytes([PLAIN | WHOLE | RAW]) + base + b"\x7f", "raw bytes is 127"),
        bad("no_profile", bytes([WHOLE]), "needs a profile"),
        bad("lane_empty", FIELDS, "empty or ends in a zero byte", words=b""),
        bad("lane_zero", FIELDS, "empty or ends in a zero byte", words=b"\x01\x00"),
        bad("lane_cut", FIELDS, "ends inside its fields", 128, 128, words=b"\x0a\x0a\x0a\x01\x01"),
        bad(
            "lane_long",
            FIELDS,
            "bytes of a lane beyond",
            128,
            128,
            words=b"\x01\x01\x7f\x01\x01",
        ),
        Bad("tokens_repeated", two + twice, CHUNK, "already arrived"),
        Bad(
            "tokens_overlapping",
            two + frame(repeated + zeros(repeated, two), two) + frame(overlapping, two),
            CHUNK,
            "already arrived",
        ),
    ]


def symbol_rules() -> list[Bad]:
    def bad(name: str, flags: int, rest: bytes, words: Any, message: str) -> Bad:
        fields = bytes([PLAIN | WHOLE | flags]) + signed_varint(48) + rest
        return Bad(name, one(fields, words, header()), CHUNK, message)

    def changed(fields: bytes, head: bytes) -> bytes:
        return zeros(fields + b"\x00", head)

    def too_many(fields: bytes, head: bytes) -> bytes:
        return zeros(fields, head, 3)

    def none(fields: bytes, head: bytes) -> bytes:
        return zeros(fields, head, 0)

    def escape_of(length: int) -> Any:
        return lambda fields, head: escape(fields, head, length)

    return [
        bad("check", 0, b"", changed, "do not end where their symbols do"),
        bad("words_left", 0, b"", too_many, "do not end where their symbols do"),
        bad("words_missing", 0, b"", none, "do not end where their symbols do"),
        bad("raw_bits_missing", 0, b"", escape_of(4), "0 bytes of raw bits, 1 are due"),
        bad("raw_bits_left", RAW, b"\x01\x00", zeros, "1 bytes of raw bits, 0 are due"),
        bad("raw_bits_padding", RAW, b"\x01\xa1", escape_of(4), "padding"),
    ]


def profile_rules(cases: dict[str, Case], huge: Profile) -> list[Bad]:
    klt, dct = cases["klt"].profile, cases["dct"].profile
    assert klt is not None
    assert dct is not None

    def head(profile: Profile, tokens: int, **options: Any) -> bytes:
        channels = options.pop("channels", profile.channels)
        return header(tokens, channels, flags=1, tail=digest_of(profile), **options)

    columns = bytes([WHOLE | COLUMNS])
    on_grid = head(dct, 10, grid=(8, 1))
    part = bytes([0, 0, 4])  # the first band is 2 + 4 tokens
    raw = bytes([WHOLE | RAW, 7]) + b"\xff" * 6 + b"\xfe"  # 24 + 31 bits
    far = head(huge, 1, j=2047)
    from_far = raw + lane(raw, far, *_far())
    return [
        Bad("profile_missing", head(klt, 1), PROFILE, "none is set"),
        Bad("profile_another", head(klt, 1), PROFILE, "this is", "dct"),
        Bad(
            "profile_width", head(klt, 1, channels=7), BITSTREAM, "7 channels, its profile 8", "klt"
        ),
        Bad(
            "columns_not_plain",
            one(columns, lane(columns, head(klt, 1)), head(klt, 1)),
            CHUNK,
            "column exponents",
            "klt",
        ),
        Bad("grid_missing", one(bytes([WHOLE]), b"\x01", head(dct, 9)), CHUNK, "grid", "dct"),
        Bad("bands", one(part, b"\x01", on_grid), CHUNK, "bands of blocks", "dct"),
        Bad("values", far + frame(from_far, far), CHUNK, "beyond float32", "huge"),
    ]


def _far() -> list[tuple[list[int], Any]]:
    """The largest index of group 159, which an offset of 500 has at any step."""
    models = class_models()
    table = models.classes[63]
    return [([len(table.frequencies) - 1], table), ([31], models.escape_lengths)]


def session_rules(cases: dict[str, Case]) -> list[Bad]:
    bare, framed = cases["session_bare"], cases["session_framed"]
    data, framed_data = bare.encode(), framed.encode()
    plain = cases["session_fields"].encode()
    trellis = bytes([data[0], data[1] | 0x20]) + data[2:]
    adaptive = cases["session_adaptive"].encode()
    first, rest = adaptive[:2], adaptive[2:]
    first, rest = first + rest[: rest[0] + 1], rest[rest[0] + 1 :]
    third = rest[rest[0] + 1 :]
    step = bytes([data[0] ^ 1]) + data[1:]
    length = framed_data[:2] + varint(2**18 + 10 * 40 + 1)

    def bad(name: str, data: bytes, error: str, message: str, shape: tuple[int, int]) -> Bad:
        own = None if name == "profile_missing" else "klt"
        return Bad(f"session_{name}", data, error, message, own, "session", shape)

    return [
        bad("cut_lead", data[:1], BITSTREAM, "ends in its header", (2, 8)),
        bad("lead_alone", data[:2], BITSTREAM, "2 of 2 tokens miss", (2, 8)),
        bad("shape", data, CHUNK, "do not end where their symbols do", (3, 8)),
        bad("step", step, CHUNK, "do not end where their symbols do", (2, 8)),
        bad("altered", data[:-1] + bytes([data[-1] ^ 2]), CHUNK, "do not end", (2, 8)),
        bad("bytes_left", data + b"\x01", CHUNK, "do not end", (2, 8)),
        bad("profile_missing", data, CHUNK, "needs a profile", (2, 8)),
        bad("trellis_of_another", trellis, CHUNK, "do not end", (2, 8)),
        Bad("session_adapts", adaptive, CHUNK, "on one side", "codebook", "session", (7, 4)),
        Bad(
            "session_chunk_lost",
            first + third,
            CHUNK,
            "do not end",
            "codebook",
            "session",
            (7, 4),
            adaptive=True,
        ),
        bad("energy_of_another", plain, CHUNK, "do not end", (1, 8)),
        bad("length", length, BITSTREAM, "bytes in a chunk", (5, 8)),
        bad("chunk_cut", framed_data[:-1], BITSTREAM, "2 of 5 tokens miss", (5, 8)),
        bad("shape_refused", b"", BITSTREAM, "not one that is coded", (0, 8)),
    ]


def make_bad(cases: list[Case]) -> list[Bad]:
    named = {case.name: case for case in cases}
    profiles = {case.name: case.profile for case in cases if case.profile is not None}
    rules = [*header_rules(), *framing_rules(), *field_rules(), *symbol_rules()]
    huge = profile_of("huge", Identity(np.array([3.4028e38], np.float32)), np.array([500]))
    rules += [*profile_rules(named, huge), *session_rules(named)]
    profiles["huge"] = huge
    return [*rules, *complete_rules(profiles), *complete_field_rules(profiles), *band_rules()]
