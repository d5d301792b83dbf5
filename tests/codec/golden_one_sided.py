"""Golden bitstreams of the one-sided mode, and bad ones."""

import numpy as np
from featurewire_codec import Profile, one_sided
from featurewire_codec.bitstream import Header
from featurewire_codec.coefficients import NO_SIDE
from featurewire_codec.cursor import varint
from featurewire_codec.entropy_coder import pack_fields
from featurewire_codec.one_sided import Contexts, Pass, walk
from featurewire_codec.one_sided_tables import load_one_sided
from featurewire_codec.one_sided_transform import OneSided
from featurewire_codec.one_sided_weights import ChannelWeights
from featurewire_codec.transform import Geometry
from golden_bad import Bad, frame, header, lane
from golden_cases import Case, Span, digest_of, numbers, profile_of, side_of, small


def spread(count: int, most: int, seed: int) -> np.ndarray:
    """Return integers -most .. most."""
    return numbers(count, 2 * most + 1, seed) - most


def weights_of(order: list[int], bounds: tuple[int, ...], seed: int) -> ChannelWeights:
    """Weights unlike any fitted ones: each matters."""
    channels = len(order)
    value = 256 + spread(7 * channels * 4, 200, seed).reshape(7, channels, 4)
    value[:, :, 3] -= 200
    value[0, :, 3] = 1024 + 64 * np.arange(channels)
    between = channels if len(bounds) > 2 else 0
    matrix = spread(7 * channels * between, 1500, seed + 1).reshape(7, channels, between)
    gain = 128 + numbers(7 * channels, 256, seed + 2).reshape(7, channels)
    first = np.minimum(np.arange(128) + numbers(128, 4, seed + 4), 127)
    mixture = [first, numbers(128, 128, seed + 5), numbers(128, 8, seed + 6)]
    return ChannelWeights(
        order=np.array(order, np.int32),
        bounds=bounds,
        value=value.astype(np.int32),
        matrix=matrix.astype(np.int16),
        gain=gain.astype(np.int32),
        shape=numbers(channels, 2, seed + 3).astype(np.uint8),
        mixture=np.stack(mixture, axis=1).astype(np.uint8),
    )


def planes(rows: int, columns: int, channels: int, seed: int) -> np.ndarray:
    """Return indices int64[rows * columns, channels]: smooth, many zero, some far off."""
    y, x = np.divmod(np.arange(rows * columns)[:, None], columns)
    slope = np.arange(channels) % 3
    smooth = (
        slope * y + (2 - slope) * x + numbers(len(y) * channels, 5, seed).reshape(len(y), -1)
    ) // 2
    height = 1 << (2 * np.arange(channels))  # the last channels have raw bits
    found = np.maximum(smooth - 4, 0) * height
    far = numbers(found.size, 41, seed + 1).reshape(found.shape) == 0
    return np.where(far, found * 9 + 130, found)


def one_sided_grid() -> Case:
    """Two tokens before the grid; a chunk of eight rows, a plain one, one of three rows."""
    channels, grid = 5, (12, 9)
    weights = weights_of([3, 0, 4, 1, 2], (0, 2, 3, 5), 5)
    weights.value[1:, 4], weights.matrix[:, 4], weights.gain[:, 4] = [256, 256, 512, 0], 7, 9
    transform = OneSided(weights)
    offsets = np.array([44, 52, 61, 70, 77])
    profile = profile_of("one_sided", transform, offsets)
    indices = np.concatenate([planes(1, 2, channels, 3), planes(*grid, channels, 4)])
    indices[2:, 2] = 1900 + np.arange(12 * 9) // 3  # large, and well predicted but for a few
    indices[13::17, 2] = 30
    spans = []
    for tokens in (range(2 + 9 * 9, 110), range(2 + 8 * 9), range(2 + 8 * 9, 2 + 9 * 9)):
        side = NO_SIDE
        own = indices[tokens.start : tokens.stop]
        if tokens.start == 2 + 8 * 9:
            side, own = side_of(len(tokens), plain=True, base=60), own - 7
        spans.append(Span(tokens, side, [own]))
    header = Header(len(indices), channels, 0, grid, digest_of(profile), None)
    return Case("one_sided", header, spans, profile, "one_sided")


def one_sided_session() -> Case:
    """No grid and one group, at another step, with midpoints; the trellis flag changes nothing."""
    channels = 3
    transform = OneSided(weights_of([1, 2, 0], (0, 3), 8))
    profile = profile_of("one_sided_alone", transform, np.array([30, 49, 55]))
    spans = [Span(range(6), NO_SIDE, [small(6, channels, 4).clip(0)])]
    header = Header(6, channels, -45, None, digest_of(profile), None, trellis=True, midpoint=True)
    return Case("one_sided_session", header, spans, profile, "one_sided_alone", "session")


def one_sided_far() -> Case:
    """A chunk of all of the grid, and one of the tokens before it; numbers as far as they go."""
    grid, before = (19, 15), 3
    tokens = before + grid[0] * grid[1]
    weights = weights_of([6, 4, 7, 1, 5, 2, 0, 3], (0, 1, 4, 5, 8), 11)
    weights.value[1:, 5], weights.value[1:, 7] = [-4096, 0, 0, 16], [0, 4096, 0, 0]
    weights.gain[:] = [300, 40, 512, 200, 150, 1, 250, 4096]
    offsets = np.array([130, 56, 1024, 125, 40, -100, 30, 48])
    profile = profile_of("one_sided_far", OneSided(weights), offsets)
    noise = numbers(tokens * 8, 64, 16).reshape(-1, 8).astype(np.int64)
    y, x = np.divmod(np.arange(tokens) - before, grid[1])
    indices = noise // 20  # small ones, and
    indices[:, 1] = (5 * (x // 5) * (y // 4)).clip(0)  # edges
    indices[:, 7] = (x // 4 + y // 4).clip(0) // 2  # even ones
    indices[:, 6] = np.where(noise[:, 6] < 8, 90, 0)  # rare ones
    indices[:, 2] = noise[:, 2] // 48 << 19  # nothing, or large ones
    indices[:, [0, 3, 5]] = (1 << 17 << noise[:, [0, 3, 5]] % 6) + (noise[:, [1, 4, 2]] << 9)
    indices[before + 31, 0] = (1 << 30) - 64  # the largest float32 that is encoded
    spans = [
        Span(part, NO_SIDE, [indices[part.start : part.stop]])
        for part in (range(before, tokens), range(before))
    ]
    header = Header(tokens, 8, -64, grid, digest_of(profile), None)
    return Case("one_sided_far", header, spans, profile, "one_sided_far")


def one_sided_flat(session: Case) -> Case:
    """No grid, and two chunks."""
    assert session.profile is not None
    indices = small(7, 3, 9).clip(0)
    spans = [
        Span(part, NO_SIDE, [indices[part.start : part.stop]]) for part in (range(4, 7), range(4))
    ]
    header = Header(7, 3, 20, None, digest_of(session.profile), None)
    return Case("one_sided_flat", header, spans, session.profile, session.profile_name)


def make_one_sided() -> list[Case]:
    session = one_sided_session()
    return [one_sided_grid(), session, one_sided_far(), one_sided_flat(session)]


def one_channel() -> Profile:
    """A profile of one channel: the average of the neighbours, rarely far off."""
    weights = weights_of([0], (0, 1), 2)
    weights.value[1:] = [256, 256, 512, 0]
    weights.gain[:] = 1
    return profile_of("one_sided_single", OneSided(weights), np.array([48 + 48]))


def make_bad_one_sided(cases: dict[str, Case]) -> list[Bad]:
    """Each is right in all but one thing, as in `golden_bad`."""
    grid, single = cases["one_sided"].profile, one_channel()
    assert grid is not None
    head = header(9, 1, flags=1, grid=(1, 9), tail=digest_of(single))
    walked = single.transform.walk(Geometry(9, 1, (1, 9)), range(9), single.offsets, 0)

    def coded(name: str, index: int, message: str, flags: int = 8, more: bytes = b"") -> Bad:
        """A bitstream of nine indices, of which the last may be one that no encoder writes."""
        parameters, weights = load_one_sided()[0], walked.weights
        runs, raw, left = [], [], [4000] * 8 + [index]

        def fill(one: Pass, channels: slice, how: Contexts) -> np.ndarray:
            own = np.array([[left.pop(0)] for _ in one.tokens])
            coarse = own >> how.low_bits
            place, radius = coarse - how.base, weights.tables.radii[how.classes].astype(int)
            low = (own - (coarse << how.low_bits)).ravel()
            raw.extend(zip(low, how.low_bits.ravel(), strict=True))
            escaped = (place >= radius) | ((place <= 0) & (how.base > 0))
            beyond = (np.maximum(place - radius, -place)[escaped] + 1).tolist()
            raw.extend((number.bit_length() - 1, 5) for number in beyond)
            for number in beyond:
                below = number.bit_length() - 1
                raw.append((number - (1 << below), below))
            clipped = np.clip(place, 0, radius).ravel().tolist()
            tabled = [weights.models[each] for each in how.classes.ravel()]
            runs.extend(([symbol], table) for symbol, table in zip(clipped, tabled, strict=True))
            if not left:
                assert how.base.ravel()[-1] > 0
            return own.astype(np.int32)

        walk(*walked, fill, parameters, one_sided)
        values, widths = (np.array(part) for part in zip(*raw, strict=True))
        packed = pack_fields(values, widths) + more
        fields = bytes([flags | 16]) + varint(len(packed)) + packed
        data = head + frame(fields + lane(fields, head, *runs), head)
        return Bad(f"one_sided_{name}", data, "ChunkError", message, "one_sided_single")

    rows = header(110, 5, flags=1, grid=(12, 9), tail=digest_of(grid))
    cuts = {"rows": (2, 10), "rows_begun": (12, 98), "prefix": (0, 1), "prefix_begun": (1, 10)}
    return [
        coded("below_zero", -1, "out of range"),
        coded("beyond", (1 << 30) + 1, "out of range"),
        coded("exponents", 4000, "exponents in a one-sided chunk", flags=10),
        coded("raw_bits_left", 4000, "bytes of raw bits", more=b"\0"),
    ] + [
        Bad(
            f"one_sided_{name}",
            rows + frame(bytes([0, *cut, 1]), rows),
            "ChunkError",
            "rows of the grid",
            "one_sided",
        )
        for name, cut in cuts.items()
    ]
