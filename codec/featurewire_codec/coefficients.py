"""The integer half of the codec: the symbols of a chunk in, its bytes out, and back.

Composes the entropy model, its tables and the entropy coder; BITSTREAM.md specifies every step.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .backend import load_backend
from .bitstream import Chunk, Fields, Header, check_of, lanes_of, write_fields
from .entropy_coder import CODER_BITS, Table
from .entropy_model import GROUP_CLASS, Ladder, quarter_octave
from .errors import BitstreamError
from .one_sided_chunk import OneSidedSymbols
from .panels import PanelShape, Symbols
from .tables import MAX_EXPONENT, load_tables, to_frequencies
from .transform import NO_INDEX, Layout, all_columns
from .trellis import TrellisSymbols

NO_EXPONENTS = np.zeros(0, np.int32)


class Offsets:
    """The offsets int32[columns] of a profile's columns, or of a plain chunk's, as ladders."""

    def __init__(self, offsets: NDArray[np.int32]) -> None:
        self.offsets = offsets
        self._ladders: dict[int, tuple[NDArray[np.int32], Ladder]] = {}

    def ladder(self, columns: NDArray[np.int32]) -> Ladder:
        """Return the ladder of the panel with these columns; one array's is made once."""
        known = self._ladders.get(id(columns))
        if known is None:
            known = columns, Ladder.of(self.offsets[columns])
            if len(self._ladders) >= 64:
                self._ladders.clear()
            self._ladders[id(columns)] = known
        return known[1]

    def panels(self, layout: Layout, shifts: NDArray[np.int32]) -> list[PanelShape]:
        """Return each panel's ladder and shifts; `shifts` int32[rows] are of all rows."""
        if len(layout.panels) == 1:  # which has all rows
            return [(self.ladder(layout.panels[0].columns), shifts)]
        return [(self.ladder(panel.columns), shifts[panel.rows]) for panel in layout.panels]


class Side(NamedTuple):
    """What a chunk sends beside its coefficients.

    plain, base: see `bitstream.Fields`. index int32[tokens]: the codewords, empty without a
    codebook. row_exponents int32[rows]. column_exponents int32[channels], empty when none are sent.
    """

    plain: bool
    base: int
    index: NDArray[np.int32]  # type: ignore[assignment]  # not the method of a tuple
    row_exponents: NDArray[np.int32]
    column_exponents: NDArray[np.int32]

    def shifts(self, step_exponent: int) -> NDArray[np.int32]:
        """Return what each row adds to its columns' offsets: int32[rows]."""
        return self.row_exponents + np.int32(self.base - quarter_octave(step_exponent))


NO_SIDE = Side(False, 0, NO_INDEX, NO_EXPONENTS, NO_EXPONENTS)


def encode_symbols(
    tokens: range,
    coded: Symbols | TrellisSymbols | OneSidedSymbols,
    side: Side,
    index_table: Table | None,
    header: Header,
    header_bytes: bytes,
    updates: int,
) -> tuple[Chunk, bytes]:
    """Encode the symbols of a chunk: the chunk, and its fields as they are written.

    `updates` is how often the session's codewords have been updated.
    """
    backend, models, lengths = load_backend(), class_models(), NO_EXPONENTS
    if isinstance(coded, OneSidedSymbols):
        own_tables, raw = coded.models, coded.raw
    else:
        own_tables = models.trellis if header.trellis else models.groups
        if isinstance(coded, TrellisSymbols):
            widths = coded.widths
        else:
            widths = backend.panels.raw_widths(coded.counts)
        raw, lengths = backend.fields.pack_raw(coded.low, widths, coded.excess)
    fields = Fields(
        tokens=tokens,
        plain=side.plain,
        base=side.base,
        row_exponents=bool(np.count_nonzero(side.row_exponents)),
        column_exponents=bool(np.count_nonzero(side.column_exponents)),
        raw=raw,
        adaptive=header.adaptive and not side.plain,
        reset=header.adaptive and not side.plain and updates == 0,
    )
    fields_bytes = write_fields(fields, header)
    lanes = lanes_of(len(tokens) * header.channels)
    check = check_of(fields_bytes, header_bytes, updates if fields.adaptive else 0)
    encoder = backend.coder.Encoder(lanes, check, own_tables)
    if len(lengths):
        encoder.push(lengths - 1, models.escape_lengths)
    if isinstance(coded, Symbols):
        encoder.push_groups(coded.symbols, coded.counts)
    else:
        encoder.push_each(coded.symbols, coded.tables)
    if fields.column_exponents:
        encoder.push(side.column_exponents + np.int32(MAX_EXPONENT), models.columns)
    if fields.row_exponents:
        encoder.push(side.row_exponents + np.int32(MAX_EXPONENT), models.rows)
    if index_table is not None:
        encoder.push(side.index, index_table)
    return Chunk(fields, encoder.words()), fields_bytes


def decode_symbols(
    chunk: Chunk,
    check: int,
    lay_out: Callable[[NDArray[np.int32]], Layout],
    offsets: Offsets | None,
    index_table: Table | None,
    header: Header,
) -> tuple[Symbols | TrellisSymbols, Side, list[PanelShape], Layout]:
    """Undo `encode_symbols`: the symbols, the side information, and the panels' shapes.

    `lay_out` makes the layout from the codewords int32[tokens]; `offsets` are the profile's, None
    for a plain chunk.

    Raises:
        BitstreamError: the words or the raw bits do not end where they should.
    """
    models, fields, backend = class_models(), chunk.fields, load_backend()
    own_tables = models.trellis if header.trellis else models.groups
    decoder = backend.coder.Decoder(chunk.words, check, own_tables)
    index = NO_INDEX
    if index_table is not None:
        index = decoder.pop(len(fields.tokens), index_table)
    layout = lay_out(index)
    rows, columns = np.zeros(layout.rows, np.int32), NO_EXPONENTS
    if fields.row_exponents:
        rows = decoder.pop(layout.rows, models.rows) - np.int32(MAX_EXPONENT)
    if fields.column_exponents:
        if offsets is not None:
            raise BitstreamError("column exponents in a chunk that is not plain")
        columns = decoder.pop(header.channels, models.columns) - np.int32(MAX_EXPONENT)
    side = Side(fields.plain, fields.base, index, rows, columns)
    if offsets is None:
        offsets = plain_offsets(header.channels, columns)
    panels = offsets.panels(layout, side.shifts(header.step_exponent))
    radii = load_tables().radii
    if header.trellis:
        symbols, tables = backend.trellis.pop(decoder, panels, radii)
        escapes = backend.trellis.count_escapes(symbols, tables, radii)
        widths = backend.trellis.raw_widths(panels)
    else:
        counts = backend.panels.counts_of(panels)
        symbols = decoder.pop_groups(counts)
        escapes = backend.panels.count_escapes(symbols, counts, radii)
        widths = backend.panels.raw_widths(counts)
    lengths = NO_EXPONENTS
    if escapes:
        lengths = decoder.pop(escapes, models.escape_lengths) + np.int32(1)
    decoder.finish()
    low, excess = backend.fields.unpack_raw(fields.raw, widths, lengths)
    if header.trellis:
        return TrellisSymbols(symbols, tables, low, widths, excess), side, panels, layout
    return Symbols(symbols, counts, low, excess), side, panels, layout


def plain_offsets(channels: int, exponents: NDArray[np.int32]) -> Offsets:
    """Return the offsets of a plain chunk: its column exponents, or zeros."""
    return Offsets(exponents) if len(exponents) else _no_offsets(channels)


@functools.lru_cache(maxsize=8)
def _no_offsets(channels: int) -> Offsets:
    offsets = Offsets(np.zeros(channels, np.int32))
    offsets.ladder(all_columns(channels))
    return offsets


def index_table(counts: NDArray[np.int64]) -> Table:
    """Return the table of the codewords, from how often calibration chose each."""
    return Table(to_frequencies(counts, spare=0, total=1 << CODER_BITS))


@dataclass(frozen=True, eq=False)
class _Models:
    rows: Table
    columns: Table
    classes: tuple[Table, ...]
    groups: tuple[Table, ...]
    trellis: tuple[Table, ...]
    escape_lengths: Table


@functools.cache
def class_models() -> _Models:
    """Return the frozen tables as the entropy coder takes them."""
    tables = load_tables()
    classes = tuple(Table(table) for table in tables.classes)
    return _Models(
        rows=Table(tables.row_exponents),
        columns=Table(tables.column_exponents),
        classes=classes,
        groups=tuple(classes[number] for number in GROUP_CLASS),
        trellis=tuple(Table(table) for table in tables.trellis),
        escape_lengths=Table(tables.escape_lengths),
    )
