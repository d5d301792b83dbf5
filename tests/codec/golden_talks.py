"""Golden sessions of several messages: codewords that adapt, and a trellis."""

from typing import Any

import numpy as np
from featurewire_codec import Profile
from featurewire_codec.bitstream import Header
from featurewire_codec.codebook import TokenCodebook
from featurewire_codec.session_framing import header_of_session
from featurewire_codec.span import Coding
from featurewire_codec.transform import Geometry
from golden_cases import Case, Span, digest_of, mirror, numbers, profile_of, side_of, small


class Talk:
    """Writes a session whose codewords adapt: it chooses from what there is by then."""

    def __init__(self, name: str, profile: Profile, profile_name: str) -> None:
        header = Header(1, profile.channels, 0, None, digest_of(profile), None, adaptive=True)
        self.case = Case(name, header, [], profile, profile_name, framing="session")
        self.coding = Coding(profile, adaptive=True)
        self.header = header

    @property
    def used(self) -> int:
        """How many codewords there are."""
        assert self.coding.transform.counts is not None
        return len(self.coding.transform.counts)

    def start(self, tokens: int, step_exponent: int, **flags: bool) -> None:
        """Begin a message."""
        self.header = Header(
            tokens,
            self.header.channels,
            step_exponent,
            None,
            self.header.profile,
            None,
            adaptive=True,
            **flags,
        )

    def say(
        self,
        index: np.ndarray,
        most: int = 4,
        first: int = 0,
        rows: np.ndarray | None = None,
        reset: bool = False,
        indices: Any = small,
    ) -> None:
        """Add a chunk: tokens from `first` on, of these codewords."""
        if reset:
            self.coding.reset()
        tokens = range(first, first + len(index))
        geometry = Geometry(self.header.tokens, self.header.channels)
        layout = self.coding.transform.layout(geometry, tokens, index.astype(np.int32))
        assert layout is not None
        panels = [
            indices(len(panel.rows), len(panel.columns), len(self.case.spans) + n, most)
            for n, panel in enumerate(layout.panels)
        ]
        side = side_of(len(index) if rows is None else rows, index=index)
        self.add(Span(tokens, side, panels, self.header, reset))

    def recite(self, step_exponent: int) -> None:
        """Add a message that uses each codeword once."""
        self.start(self.used, step_exponent)
        self.say(np.arange(self.used), most=1)

    def add(self, span: Span) -> None:
        """Add a chunk, and learn from it."""
        self.case.code(span, header_of_session(self.header), self.coding)
        self.case.spans.append(span)


def learning() -> Case:
    """What differs from chunk to chunk: steps, trellis, midpoint, framing, a reset on the way.

    Spreads differ by group and component, scales need rounding or are beyond their bound, a
    codeword grows to its full age, and residuals reach both ends of their range.
    """
    codewords = (numbers(6 * 3, 255, 5) - 127).reshape(6, 3)
    codewords[5] = [17, 36, -26]  # the last is below its bound, the fourth one's above
    transform = TokenCodebook(
        mean=np.float32([2, -0.5, 0.25]),
        matrices=np.stack([np.eye(3, dtype=np.float32)[[2, 0, 1]], mirror([0, 1, 1])]),
        spreads=np.float32([[0.75, 2, 2000], [0.6, 1, 3]]),
        codewords=codewords.astype(np.int8),
        scales=np.float32([[0.3, 0.01, 0.7], [0.05, 1.1, 40000]]),
        group=np.array([1, 0, 0, 1, 0, 1], np.uint8),
        counts=np.array([700, 0, 31, 5, 2, 90], np.int64),
    )
    profile = profile_of("learning", transform, np.array([40, 46, 52, 38, 43, 49]))
    talk = Talk("session_learning", profile, "learning")
    talk.start(9, 7)
    talk.say(numbers(9, 6, 2), most=3)
    talk.start(12, -45, trellis=True)  # two chunks, of form 3
    talk.say(numbers(7, talk.used, 3), most=5)
    talk.say(numbers(5, talk.used, 4), most=2, first=7)
    talk.start(40, -64)  # the first codeword is used more often than it can age
    talk.say(np.zeros(40, int), most=1, rows=np.arange(40) % 3 - 1)
    talk.start(6, 250)  # near, but many units from it
    talk.say(np.array([1, 1, 4, 4, 4, 1]), 5, indices=lambda *of: small(*of) * [0, 0, 1])
    talk.recite(-640)
    talk.start(4, 30, midpoint=True)  # a plain chunk teaches nothing
    talk.add(Span(range(2), side_of(2, plain=True, base=50), [small(2, 3, 8)], talk.header))
    talk.say(numbers(2, talk.used, 5), first=2)
    talk.start(5, 17, trellis=True, midpoint=True)
    talk.say(numbers(5, talk.used, 10), most=6)
    talk.start(3, 400)  # beyond the largest residual
    talk.say(numbers(3, talk.used, 6), most=2)
    talk.recite(-300)
    talk.start(6, 12)
    talk.say(np.arange(6), reset=True)
    talk.start(2, -1650, midpoint=True)  # raw bits; escapes to beyond 2^24 in 1/256 of a step
    talk.say(numbers(2, talk.used, 8), 50, indices=_large)
    talk.start(2, -200)
    talk.say(numbers(2, talk.used, 9), 30, indices=_large)
    talk.start(1, 3)
    talk.say(np.array([talk.used - 1]))
    talk.start(1, 3)
    talk.say(np.array([talk.used - 1]), rows=np.array([4]))
    return talk.case


def _large(rows: int, columns: int, seed: int, bits: int) -> np.ndarray:
    size = 1 << numbers(rows * columns, bits, seed + 3).reshape(rows, columns).astype(np.int64)
    return small(rows, columns, seed) * size + 1


def wrapping() -> Case:
    """More than 4096 new codewords: the oldest of them give way, and all counts are halved.

    Of the second message some codewords are overwritten before others move towards their tokens.
    """
    transform = TokenCodebook(
        mean=np.float32([1]),
        matrices=np.ones((1, 1, 1), np.float32),
        spreads=np.ones((1, 1), np.float32),
        codewords=np.array([[-100], [50]], np.int8),
        scales=np.float32([[0.5]]),
        group=np.zeros(2, np.uint8),
        counts=np.array([3, 1], np.int64),
    )
    talk = Talk("session_wrapping", profile_of("wrapping", transform, np.array([72])), "wrapping")
    talk.start(4101, 32)
    talk.say(numbers(4101, 2, 1), indices=lambda rows, *_: 4 + 40 * numbers(rows, 9, 2)[:, None])
    assert talk.used == 4098
    talk.start(60, 16)
    index = np.where(np.arange(60) % 3, 4 + numbers(60, 30, 5), numbers(60, 4098, 3))
    index[30:34] = [0, 1, 1, 0]
    talk.say(index, most=2)
    talk.start(30, -20)
    talk.say(2 + numbers(30, 60, 6), most=9)
    return talk.case


def distances() -> Case:
    """Residuals that are just far enough for a codeword of their own, and just not.

    The limit is floor(0.7 x 3 x 4096) = 8601. The first group's spreads are 512 units, and a
    residual r counts r >> 3; of the second's 523.7 the limit is at r = 761, at 760 or 762 where a
    floor is left out.
    """
    transform = TokenCodebook(
        mean=np.float32([1, 0, -1]),
        matrices=np.stack([np.eye(3, dtype=np.float32)] * 2),
        spreads=np.float32([[0.5, 0.5, 0.5], [523.7 / 1024, 1, 1]]),
        codewords=np.array([[9, -8, 7], [-60, 50, 40]], np.int8),
        scales=np.full((2, 3), 0.25, np.float32),
        group=np.array([0, 1], np.uint8),
        counts=np.array([5, 3], np.int64),
    )
    profile = profile_of("distances", transform, np.full(6, 48))
    talk = Talk("session_distances", profile, "distances")
    sums = [(60, 50, 50), (64, 56, 37), (60, 51, 49)]  # whose squares add up to 8600, 8601, 8602
    first = np.array([[8 * n + more for n in each] for each in sums for more in (0, 7)])
    second = np.array([[r, 0, 0] for r in range(758, 765)])
    indices = {0: first, 1: second * [[-1, 1, 1]]}
    index = np.repeat([0, 1], [len(first), len(second)])
    talk.start(len(index), -320)  # a step is a unit
    talk.say(index, indices=lambda rows, *_: indices[int(rows == len(second))].astype(np.int64))
    assert talk.used == 2 + 2 + 4
    talk.recite(-640)
    return talk.case


def saturating() -> Case:
    """Residuals of 2^63 / 256 of a step and more, which are bounded before they are integers."""
    transform = TokenCodebook(
        mean=np.float32([0]),
        matrices=np.ones((1, 1, 1), np.float32),
        spreads=np.ones((1, 1), np.float32),
        codewords=np.array([[-3], [7], [5], [-4]], np.int8),
        scales=np.ones((1, 1), np.float32),
        group=np.zeros(4, np.uint8),
        counts=np.array([1, 1, 1, 1], np.int64),
    )
    profile = profile_of("saturating", transform, np.array([300]))
    talk = Talk("session_saturating", profile, "saturating")
    for step_exponent in (5, -1100):
        talk.start(5, step_exponent)
        far = np.array([[1 << 56], [-(1 << 55)], [1 << 55], [-(1 << 56)], [1 << 50]], np.int64)
        talk.say(np.arange(5) % 4, indices=lambda *_, far=far: far)
    assert talk.used == 9
    talk.recite(20)
    return talk.case


def trellis(profile: Profile) -> Case:
    """A trellis in a session, whose codewords do not adapt."""
    index = numbers(30, 3, 4)
    layout = profile.transform.layout(Geometry(30, 6), range(30), index)
    assert layout is not None
    indices = [small(len(panel.rows), 6, 50 + n, 5) for n, panel in enumerate(layout.panels)]
    span = Span(range(30), side_of(np.arange(30) % 5 - 2, index=index), indices)
    header = Header(30, 6, 3, None, digest_of(profile), None, trellis=True)
    return Case("session_trellis", header, [span], profile, "trellis", framing="session")


def on_a_grid(profile: Profile) -> Case:
    """Blocks in a session."""
    tokens, grid = range(1 + 4 * 3), (4, 3)
    layout = profile.transform.layout(Geometry(13, 2, grid), tokens, np.zeros(0, np.int32))
    assert layout is not None
    indices = [small(len(p.rows), len(p.columns), 70 + n) for n, p in enumerate(layout.panels)]
    span = Span(tokens, side_of(layout.rows), indices)
    header = Header(13, 2, 64, grid, digest_of(profile), None)
    return Case("session_grid", header, [span], profile, "dct_weighted", framing="session")


def make_talks(cases: dict[str, Case]) -> list[Case]:
    with_trellis, with_grid = cases["trellis"].profile, cases["dct_weighted"].profile
    assert with_trellis is not None
    assert with_grid is not None
    learned = [learning(), wrapping(), distances(), saturating()]
    return [trellis(with_trellis), on_a_grid(with_grid), *learned]
