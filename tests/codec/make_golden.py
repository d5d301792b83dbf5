"""Makes the golden bitstreams in golden/: run `make golden`. Nothing else writes them.

Each case starts from integers (indices and exponents), so the bytes are the same on every machine.
"""

from pathlib import Path

import numpy as np
from featurewire_codec import Profile
from featurewire_codec.bitstream import Header, write_chunk, write_header
from featurewire_codec.block_dct import BlockDct
from featurewire_codec.coefficients import Scales, encode_indices
from featurewire_codec.transform import Geometry, Identity, Transform, plain_transform
from safetensors.numpy import save_file

GOLDEN = Path(__file__).parent / "golden"
NONE = np.zeros(0, np.int32)


def numbers(count: int, below: int) -> np.ndarray:
    """Return integers 0 .. below - 1 that look random: a linear congruential generator."""
    state, out = 1, []
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        out.append((state >> 8) % below)
    return np.array(out, np.int32)


def write(name: str, header: Header, spans: list[tuple[range, np.ndarray, Scales]]) -> None:
    head = write_header(header)
    chunks = [
        write_chunk(encode_indices(tokens, indices, scales, header.step_exponent), header, head)
        for tokens, indices, scales in spans
    ]
    (GOLDEN / f"{name}.fw").write_bytes(head + b"".join(chunks))
    indices = {f"chunk{number}": span[1] for number, span in enumerate(spans)}
    save_file(indices, GOLDEN / f"{name}.indices.safetensors")


def profile_of(name: str, transform: Transform, offsets: np.ndarray) -> Profile:
    steps = np.array([32, 0, -32], np.int32)
    profile = Profile(transform, 1.0, offsets, steps, np.array([4.0, 10.0, 16.0]), {})
    profile.save_pretrained(GOLDEN / f"{name}.profile")
    return profile


def make_worked() -> None:
    """The example worked in BITSTREAM.md: two tokens of three channels, plain, at a step of 1."""
    layout = plain_transform(3).layout(Geometry(2, 3), range(2))
    columns = np.zeros(3, np.int32)
    scales = Scales(True, 44, layout, columns[layout.column], columns, np.zeros(2, np.int32))
    indices = np.array([1, 0, -2, 0, 25, -1], np.int32)
    write("worked", Header(2, 3, 0, None, None, 1.0), [(range(2), indices, scales)])


def make_plain() -> None:
    """Row and column exponents, and two chunks."""
    channels, spans = 24, []
    for tokens in (range(5), range(5, 12)):
        layout = plain_transform(channels).layout(Geometry(12, channels), tokens)
        columns, rows = numbers(channels, 9) - 4, 2 * (numbers(len(tokens), 5) - 2)
        scales = Scales(True, 41, layout, columns[layout.column], columns, rows)
        spans.append((tokens, numbers(len(layout.row), 9) - 4, scales))
    write("plain", Header(12, channels, -45, None, None, 0.25), spans)


def make_identity() -> None:
    """Every class, raw low bits, and escapes up to the largest index."""
    channels = 96
    mean = np.arange(channels, dtype=np.float32) / 4
    offsets = np.arange(channels, dtype=np.int32) - 8
    profile = profile_of("identity", Identity(mean), offsets)
    layout = profile.transform.layout(Geometry(4, channels), range(4))
    indices = numbers(4 * channels, 61) - 30
    indices[[0, 95, 200, 383]] = [2**30, -(2**30), 4711, -300]
    scales = Scales(False, 0, layout, offsets[layout.column], NONE, np.int32([0, 2, -4, 0]))
    header = Header(4, channels, 32, None, bytes.fromhex(profile.digest)[:8], None)
    write("identity", header, [(range(4), indices.astype(np.int32), scales)])


def make_dct() -> None:
    """Prefix tokens, blocks of four sizes, and a chunk for each band of blocks."""
    channels, block, geometry = 3, 4, Geometry(2 + 7 * 5, 3, (7, 5))
    mean, prefix_mean = np.float32([1, 2, 3]), np.float32([-1, 0, 1])
    turn = np.float32([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    transform = BlockDct(mean, prefix_mean, turn[None], block)
    offsets = 44 - numbers(transform.columns, 12)
    profile = profile_of("dct", transform, offsets)
    spans = []
    for tokens in transform.spans(geometry, features=1):
        layout = transform.layout(geometry, tokens)
        assert layout is not None
        rows = np.zeros(layout.rows, np.int32)
        scales = Scales(False, 0, layout, offsets[layout.column], NONE, rows)
        spans.append((tokens, numbers(len(layout.row), 7) - 3, scales))
    digest = bytes.fromhex(profile.digest)[:8]
    write("dct", Header(geometry.tokens, channels, 0, geometry.grid, digest, None), spans)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    make_worked()
    make_plain()
    make_identity()
    make_dct()
