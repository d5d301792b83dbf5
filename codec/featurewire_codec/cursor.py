"""Variable-length integers: values in, bytes out, and back with every value checked."""

from .errors import BitstreamError


class CutShort(Exception):
    """The bytes end before the value does."""


class Cursor:
    """Reads fields one after the other."""

    def __init__(self, data: bytes | bytearray, place: int) -> None:
        self.data = data
        self.place = place

    def take(self, count: int) -> bytes:
        """Take so many bytes. Raises CutShort."""
        if self.place + count > len(self.data):
            raise CutShort
        self.place += count
        return bytes(self.data[self.place - count : self.place])

    def byte(self) -> int:
        """Take one byte. Raises CutShort."""
        if self.place >= len(self.data):
            raise CutShort
        self.place += 1
        return self.data[self.place - 1]

    def varint(self, most: int, name: str) -> int:
        """Take an unsigned integer of at most `most`. Raises CutShort, BitstreamError."""
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > most or (byte == 0 and shift):
                    raise BitstreamError(f"the number of {name} is {value}, at most {most} can be")
                return value
        raise BitstreamError(f"the number of {name} is not a variable-length integer")

    def signed(self, allowed: range, name: str) -> int:
        """Take a signed integer of a range. Raises CutShort, BitstreamError."""
        coded = self.varint(2 * len(allowed), name)
        value = (coded >> 1) ^ -(coded & 1)
        if value not in allowed:
            raise BitstreamError(f"the {name} is {value}, beyond {allowed[0]} to {allowed[-1]}")
        return value


def varint(value: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first, the top bit set on all but the last."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed_varint(value: int) -> bytes:
    """Zigzag: 2v where v >= 0, -2v - 1 where v < 0, as a varint."""
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)
