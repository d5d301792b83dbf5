"""A long sample in parts: consecutive tokens, each part a bitstream with a grid of its own."""

from itertools import pairwise

from featurewire_codec.encoder import CHUNK_FEATURES

Grid = tuple[int, int] | None

PART_POINTS = CHUNK_FEATURES  # about
_BAND = 8  # rows of a grid: whole blocks of every transform


def parts_of(shape: tuple[int, int], grid: Grid) -> list[range]:
    """The tokens of a sample, cut where rows of its grid end.

    What comes before the grid is in the first part.

    Args:
        shape: tokens and channels.
        grid: rows and columns of the sample's last tokens.
    """
    tokens, channels = shape
    lead, row = 0, 1
    size = max(PART_POINTS // channels, 1)
    if grid is not None:
        row = grid[1]
        lead = tokens - grid[0] * row
        size = row * max(size // row // _BAND * _BAND, _BAND)
    edges = [0, *range(lead + size, tokens, size), tokens]
    return [range(*edge) for edge in pairwise(edges)]


def grid_of_part(tokens: int, grid: Grid, part: range) -> Grid:
    """The part's rows and columns, of a sample of so many tokens.

    Raises:
        ValueError: it does not begin or end where a row does, or has none.
    """
    if grid is None:
        return None
    rows, columns = grid
    lead = tokens - rows * columns
    begins = not part.start or (part.start >= lead and (part.start - lead) % columns == 0)
    patches = part.stop - max(part.start, lead)
    if not begins or patches <= 0 or patches % columns:
        raise ValueError(
            f"tokens {part.start} to {part.stop} are no whole rows of {rows} x {columns} patches"
            f" behind {lead} tokens"
        )
    return patches // columns, columns
