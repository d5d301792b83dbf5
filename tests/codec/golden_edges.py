"""Golden bitstreams of what a decoder easily gets wrong: frequencies, lanes, task weights."""

import numpy as np
from featurewire_codec.bitstream import Header
from featurewire_codec.block_dct import BlockDct
from featurewire_codec.codebook import TokenCodebook
from featurewire_codec.task_weight import TaskWeight
from featurewire_codec.transform import ChannelKlt, Geometry
from golden_cases import Case, Span, digest_of, mirror, numbers, profile_of, side_of, small


def dct_uneven() -> Case:
    """Blocks of 7 x 5 and 6 x 5 where 8 are due, no prefix, a chunk for each band.

    There floor(u B / h) is neither u nor the nearest integer; each frequency has offsets and a
    matrix of its own.
    """
    geometry = Geometry(13 * 5, 2, (13, 5))
    swap, flip = np.float32([[0, 1], [1, 0]]), np.float32([[1, 0], [0, -1]])
    turns = np.stack([np.eye(2, dtype=np.float32), swap, flip, swap @ flip])
    matrices = turns[numbers(64, 4, 3)]
    transform = BlockDct(np.float32([3, -1]), np.float32([0, 0]), matrices, 8)
    profile = profile_of("dct_uneven", transform, 54 - numbers(transform.columns, 20, 2))
    spans = []
    for tokens in (range(7 * 5, 13 * 5), range(7 * 5)):
        layout = transform.layout(geometry, tokens)
        assert layout is not None
        indices = [small(len(p.rows), len(p.columns), tokens.stop) for p in layout.panels]
        spans.append(Span(tokens, side_of(layout.rows), indices))
    header = Header(geometry.tokens, 2, 0, geometry.grid, digest_of(profile), None)
    return Case("dct_uneven", header, spans, profile, "dct_uneven")


def lane_limits() -> Case:
    """Chunks of 2^14, 2^14 - 1, 2^11 and 2^11 - 1 coefficients: four lanes, two, two and one."""
    spans, start = [], 0
    for tokens in (2**14, 2**14 - 1, 2**11, 2**11 - 1):
        indices = small(tokens, 1, tokens % 97, 1) * (numbers(tokens, 50) == 0)[:, None]
        side = side_of(tokens, plain=True, base=30)
        spans.append(Span(range(start, start + tokens), side, [indices]))
        start += tokens
    return Case("lane_limits", Header(start, 1, 0, None, None, 1.0), spans)


def weight_of(channels: int) -> TaskWeight:
    """A weight that is not symmetric, and whose inverse is exact."""
    scale = 2.0 ** (np.arange(channels) % 3 - 1)
    mixed = np.zeros((channels, channels))
    mixed[: channels // 2, channels // 2 :] = 0.5
    mixed[0, -1] = -1
    weight = scale[:, None] * (np.eye(channels) + mixed)
    inverse = (np.eye(channels) - mixed) / scale
    return TaskWeight(weight.astype(np.float32), inverse.astype(np.float32))


def klt_weighted() -> Case:
    matrix = mirror([1, 1, 1, 1])[:, [2, 0, 3, 1]]
    transform = ChannelKlt(np.float32([1, -2, 0.5, 7]), matrix, weight_of(4))
    profile = profile_of("klt_weighted", transform, np.array([50, 40, 44, 47]))
    span = Span(range(5), side_of(5), [small(5, 4, 9)])
    header = Header(5, 4, -3, None, digest_of(profile), None)
    return Case("klt_weighted", header, [span], profile, "klt_weighted")


def codebook_weighted() -> Case:
    transform = TokenCodebook(
        mean=np.float32([0, 4, -1]),
        matrices=np.stack([mirror([1, 1, 0]), np.roll(np.eye(3, dtype=np.float32), 1, axis=0)]),
        spreads=np.ones((2, 3), np.float32),
        codewords=(numbers(4 * 3, 255, 9) - 127).reshape(4, 3).astype(np.int8),
        scales=np.float32([[0.25, 0.5, 0.125], [1, 0.0625, 0.5]]),
        group=np.array([1, 0, 0, 1], np.uint8),
        counts=np.array([3, 2, 2, 1], np.int64),
        weight=weight_of(3),
    )
    profile = profile_of("codebook_weighted", transform, np.array([50, 41, 47, 44, 52, 38]))
    index = np.array([0, 2, 3, 1], np.int32)
    layout = transform.layout(Geometry(4, 3), range(4), index)
    indices = [small(len(panel.rows), 3, 5 + n) for n, panel in enumerate(layout.panels)]
    span = Span(range(4), side_of(4, index=index), indices)
    header = Header(4, 3, 11, None, digest_of(profile), None)
    return Case("codebook_weighted", header, [span], profile, "codebook_weighted")


def dct_weighted() -> Case:
    """The weight is for blocks alone, not for the tokens before them."""
    geometry = Geometry(2 + 3 * 2, 2, (3, 2))
    matrices = np.stack([mirror([1, 1]), np.eye(2, dtype=np.float32)])[[0, 1, 1, 0]]
    means = np.float32([1, 5]), np.float32([-2, 0.5])
    transform = BlockDct(*means, matrices, 2, weight_of(2))
    profile = profile_of("dct_weighted", transform, 47 - numbers(transform.columns, 9))
    tokens = range(geometry.tokens)
    layout = transform.layout(geometry, tokens)
    assert layout is not None
    indices = [small(len(p.rows), len(p.columns), 40 + n) for n, p in enumerate(layout.panels)]
    span = Span(tokens, side_of(layout.rows), indices)
    header = Header(geometry.tokens, 2, 0, geometry.grid, digest_of(profile), None)
    return Case("dct_weighted", header, [span], profile, "dct_weighted")


def all_flags(weighted: Case) -> Case:
    """Every flag of the header; blocks of one size side by side, and a row exponent for each."""
    profile, geometry = weighted.profile, Geometry(1 + 6 * 4, 2, (6, 4))
    assert profile is not None
    layout = profile.transform.layout(geometry, range(25), np.zeros(0, np.int32))
    assert layout is not None
    indices = [small(len(p.rows), len(p.columns), 60 + n) for n, p in enumerate(layout.panels)]
    span = Span(range(25), side_of(numbers(layout.rows, 9, 6) - 4), indices)
    digest = digest_of(profile)
    header = Header(25, 2, 10, geometry.grid, digest, None, trellis=True, midpoint=True)
    return Case("all_flags", header, [span], profile, "dct_weighted")


def extreme(name: str, step_exponent: int) -> Case:
    """The largest or the smallest step, and chunks of a usual base, the highest and the lowest."""
    spans = []
    for n, base in enumerate((48 + (step_exponent >> 3), 2048, -2048)):
        side = side_of(2, plain=True, base=base)
        spans.append(Span(range(2 * n, 2 * n + 2), side, [small(2, 3, n)]))
    return Case(name, Header(6, 3, step_exponent, None, None, 1.0), spans)


def make_edges() -> list[Case]:
    weighted = [klt_weighted(), codebook_weighted(), dct_weighted()]
    extremes = [extreme("coarsest", 2047), extreme("finest", -2048)]
    return [dct_uneven(), lane_limits(), *weighted, all_flags(weighted[-1]), *extremes]
