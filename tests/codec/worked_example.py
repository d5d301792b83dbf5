"""The worked example of BITSTREAM.md: the bytes of golden/worked.fw in, every number of it out.

It decodes with the integers of the document alone, so that it shows what a decoder does.
"""

import re
import zlib
from pathlib import Path

from featurewire_codec.tables import load_tables

SPECIFICATION = Path(__file__).parents[2] / "codec" / "BITSTREAM.md"
SECTION = re.compile(r"(<!-- worked example -->\n).*(<!-- end of the worked example -->)", re.S)
CLASS = 48


def explain(data: bytes) -> str:
    """Return the example in Markdown."""
    header, length, fields, crc = data[:11], data[11], data[12:16], data[-4:]
    words = data[16:-4]
    assert (length, fields[:3]) == (len(fields) + len(words), b"\x19\x60\x01")
    check = zlib.crc32(header + fields) & 0xFFFFFF
    listed = [
        (header[:2], "magic"),
        (header[2:3], "version 5"),
        (header[3:4], "flags: no profile, no grid, no trellis, values with centroids"),
        (header[4:5], "2 tokens"),
        (header[5:6], "3 channels"),
        (header[6:7], "j = 0: a step of 1"),
        (header[7:11], "E = 1.0"),
        (data[11:12], f"chunk: a body of {length} bytes"),
        (fields[0:1], "flags: plain, all tokens, raw bits"),
        (fields[1:2], "base 48"),
        (fields[2:3], "one byte of raw bits"),
        (fields[3:4], "raw bits 101, padding 00000"),
        (words, "the words of the only lane, least significant byte first"),
        (crc, "CRC-32 of all before it"),
    ]
    rows = [f"{part.hex(' '):<24}  {meaning}" for part, meaning in listed]
    return "\n".join(
        ["```", *rows, "```", "", *_steps(words, check, header + fields), *_values(check)]
    )


def _steps(words: bytes, check: int, before: bytes) -> list[str]:
    """Decode the words, and show each step."""
    tables = load_tables()
    radius = int(tables.radii[CLASS])
    padded = words + bytes(-len(words) % 4)
    stack = [int.from_bytes(padded[i : i + 4], "little") for i in range(0, len(padded), 4)]
    named = ", ".join(f"`{word:#010x}`" for word in stack)
    state = 0
    while state < 1 << 32 and stack:
        state = state << 32 | stack.pop()
    lines = [
        f"The CRC-32 of the {len(before)} bytes of header and fields is "
        f"`{zlib.crc32(before):#010x}`, so the check is `{check:#08x}`. The lane has the words "
        f"{named}, which give the state `{state:#x}`. Every level is 0 + 0 + 48 - 0, so every "
        f"group and class is 48, whose R is {radius}; the symbols come row by row, each in the "
        "order of its columns.",
        "",
        "| symbol | q = x mod 2^24 | C | f | x becomes | means |",
        "|---|---|---|---|---|---|",
    ]
    frequencies = [int(f) << 10 for f in tables.classes[CLASS]]
    lengths = [int(f) << 10 for f in tables.escape_lengths]
    for number in range(7):
        table = frequencies if number < 6 else lengths
        q, symbol, before_it = state & 0xFFFFFF, 0, 0
        while before_it + table[symbol] <= q:
            before_it += table[symbol]
            symbol += 1
        state = (state >> 24) * table[symbol] + q - before_it
        if state < 1 << 32 and stack:
            state = state << 32 | stack.pop()
        meaning = f"index {symbol - radius}"
        if number < 6 and symbol in (0, 2 * radius):
            meaning = f"an escape of {'-' if symbol == 0 else ''}{radius} and beyond"
        if number == 6:
            meaning = f"the escape's m + 1 has {symbol + 1} bits"
        cells = f"{symbol} | {q} | {before_it} | {table[symbol]} | `{state:#x}` | {meaning}"
        lines.append(f"| {cells} |")
    assert state == (1 << 24) + check
    return lines


def _values(check: int) -> list[str]:
    tables = load_tables()
    radius = int(tables.radii[CLASS])
    centroids = [int(c) for c in tables.centroids[CLASS]]
    beyond = 25 - radius
    assert beyond + 1 == 13
    rebuilt = " ".join(
        f"{k} becomes {abs(k)} + {centroids[min(abs(k), 3)]}/256"
        f" = {abs(k) + centroids[min(abs(k), 3)] / 256}{' with the sign' if k < 0 else ''};"
        for k in (1, -2, 25)
    ).rstrip(";")
    return [
        "",
        f"The state ends at 2^24 + the check, `{(1 << 24) + check:#x}`, and no word is left. The "
        f"escape's 4 bits are the 1 that is not sent and the raw bits 101: m + 1 = 13, m = "
        f"{beyond}, so the index is {radius} + {beyond} = 25. The centroids of class 48 are "
        f"{', '.join(map(str, centroids))}, so {rebuilt}.",
        "",
    ]


def put(example: str) -> str:
    """Return BITSTREAM.md with the example in its place."""
    text = SPECIFICATION.read_text(encoding="utf-8")
    assert SECTION.search(text)
    return SECTION.sub(lambda found: found[1] + example + found[2], text)
