"""`entropy_coder.pack_fields` and `unpack_fields`, compiled: the same bytes, many times faster."""

import numpy as np
from numpy.typing import NDArray

from ..entropy_coder import check_raw_length
from .compiled import compiled


def pack_fields(values: NDArray[np.int64], widths: NDArray[np.integer]) -> bytes:
    """See `entropy_coder.pack_fields`."""
    room = np.zeros((int(widths.sum(dtype=np.int64)) + 7) // 8, np.uint8)
    _pack(values, widths.astype(np.uint8), room)
    return room.tobytes()


def unpack_fields(data: bytes, widths: NDArray[np.integer]) -> NDArray[np.int64]:
    """See `entropy_coder.unpack_fields`."""
    check_raw_length(data, widths)
    values = np.empty(len(widths), np.int64)
    _unpack(np.frombuffer(data, np.uint8), widths.astype(np.uint8), values)
    return values


@compiled("void(int64[::1], uint8[::1], uint8[::1])")
def _pack(values, widths, room):  # type: ignore[no-untyped-def]
    held, bits, place = np.int64(0), np.int64(0), 0
    for i in range(len(values)):
        held = (held << widths[i]) | values[i]
        bits += widths[i]
        while bits >= 8:
            bits -= 8
            room[place] = np.uint8(held >> bits)
            held &= (np.int64(1) << bits) - 1
            place += 1
    if bits:
        room[place] = np.uint8(held << (8 - bits))


@compiled("void(Array(uint8, 1, 'C', readonly=True), uint8[::1], int64[::1])")
def _unpack(octets, widths, values):  # type: ignore[no-untyped-def]
    held, bits, place = np.int64(0), np.int64(0), 0
    for i in range(len(values)):
        while bits < widths[i]:
            held = (held << 8) | np.int64(octets[place])
            bits += 8
            place += 1
        bits -= widths[i]
        values[i] = held >> bits
        held &= (np.int64(1) << bits) - 1
