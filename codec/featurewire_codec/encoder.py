"""The encoder: a feature and the settings of one bitstream in, its chunks out."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .backend import load_backend
from .bitstream import Header, frame_chunk, write_body, write_header
from .coefficients import NO_SIDE, Side, encode_symbols
from .one_sided_chunk import OneSidedSymbols, quantise_walk
from .one_sided_transform import OneSided
from .panels import Symbols
from .quantiser import BIT_WORTH, Effort, step_size
from .session_framing import header_of_session, write_lead
from .span import Coding, Quantised, quantise_plain, quantise_values, rebuild, rounding_for
from .transform import NO_INDEX, Floats, Geometry, Transform, plain_transform
from .trellis import TrellisSymbols

CHUNK_FEATURES = 1 << 18  # about 64 KiB at 2 bits a feature
ADAPTING_TOKENS = 64  # in a chunk, when codewords adapt after each
Framing = Literal["file", "session"]
# By a rough count of bits: beyond this ratio, the profile's way to code a chunk is not even tried.
_SURELY_CHEAPER = 1.25
# A chunk's fields, what follows them, and what codewords may learn from.
Way = tuple[bytes, bytes, Quantised | None]


@dataclass(frozen=True)
class Settings:
    """How one bitstream is quantised.

    step_exponent: j of the step. bit_worth: see `quantiser.rounding_thresholds`; None rounds to the
    nearest index. midpoint: values are rebuilt without centroids. plain: no chunk is coded with the
    profile, whatever that costs. energy: E, for the header of a self-describing bitstream.
    effort: "trellis" searches paths instead of rounding.
    """

    step_exponent: int
    bit_worth: float | None = BIT_WORTH
    midpoint: bool = False
    plain: bool = False
    energy: float | None = None
    effort: Effort = "fast"


class Encoder:
    """Writes one bitstream of a feature [tokens, channels] at given settings."""

    def __init__(
        self, coding: Coding | None, geometry: Geometry, settings: Settings, framing: Framing
    ) -> None:
        self._coding, self._geometry, self._settings = coding, geometry, settings
        self._framing = framing
        digest = coding.digest if coding else None
        self._header = _header(
            geometry, settings, framing, digest, bool(coding and coding.adaptive)
        )
        self._header_bytes = write_header(self._header)
        self._rounding = rounding_for(settings.effort, settings.bit_worth)

    def chunks(self, feature: Floats) -> Iterator[bytes]:
        """Encode chunk by chunk; what comes before all chunks is at the start of the first.

        Raises:
            FeatureError: a coefficient is too many steps from zero.
        """
        transform: Transform = plain_transform(self._geometry.channels)
        if self._coding is not None:
            transform = self._coding.transform
        features = CHUNK_FEATURES
        if self._header.adaptive:
            features = min(features, ADAPTING_TOKENS * self._geometry.channels)
            assert self._coding is not None
            if self._coding.unfinished:  # the other end has not heard what that one has taught
                self._coding.reset()
            self._coding.unfinished = True
        spans = transform.spans(self._geometry, features)
        lead = self._header_bytes
        for span in spans:
            # The quantiser refuses what an overflow leaves.
            with np.errstate(over="ignore", invalid="ignore"):
                fields, body = self._encode_span(feature[span.start : span.stop], span)
            if self._framing == "file":
                yield lead + frame_chunk(fields + body, self._header_bytes)
            else:
                yield write_lead(self._header, span, fields, body)
            lead = b""
        if self._coding is not None:
            self._coding.unfinished = False

    def _encode_span(self, feature: Floats, span: range) -> tuple[bytes, bytes]:
        """Code a span the better of the open ways: its fields, and what follows them."""
        own, rough = None, 0.0
        if self._coding is not None and not self._settings.plain:
            transform, rough = self._coding.transform, self._rough_bits(feature)
            if isinstance(transform, OneSided):
                own = self._one_sided_way(feature, span, transform)
            else:
                own = self._transformed_way(feature, span, transform, rough)
        way = own
        if own is None or 8 * _size(own) > feature.size * _least_plain_bits(rough / feature.size):
            coded = quantise_plain(feature, self._settings.step_exponent, self._rounding)
            plain = self._way(span, coded)
            way = plain if own is None or self._is_better(plain, own, feature, span) else own
        assert way is not None
        fields, body, kept = way
        if self._coding is not None and kept is not None and not kept.side.plain:
            self._coding.learn(kept, self._settings.step_exponent)
        return fields, body

    def _rough_bits(self, values: Floats) -> float:
        scale = 1.0 / step_size(self._settings.step_exponent)
        return float(load_backend().panels.rough_bits(values.ravel(), scale)) / 2.0**23

    def _is_better(self, plain: Way, own: Way, feature: Floats, span: range) -> bool:
        """Whether plain coding takes fewer bits at the same error.

        A bit for every feature point is worth 6 dB. Of a one-sided way only the bits are compared.
        """
        saved = 8 * (_size(own) - _size(plain))
        if self._coding is None or own[2] is None or plain[2] is None:
            return saved > 0
        step_exponent, midpoint = self._settings.step_exponent, self._settings.midpoint
        (as_plain,) = rebuild(plain[2].symbols, plain[2].panels, step_exponent, midpoint)
        values = rebuild(own[2].symbols, own[2].panels, step_exponent, midpoint)
        index, transform = own[2].side.index, self._coding.transform
        as_own = transform.inverse(values, self._geometry, span, index)
        errors = [
            max(float(np.sum((decoded - feature) ** 2, dtype=np.float64)), 1e-300)
            for decoded in (as_plain, as_own)
        ]
        return saved > 0.5 * feature.size * math.log2(errors[0] / errors[1])

    def _transformed_way(
        self, feature: Floats, span: range, transform: Transform, plain: float
    ) -> Way | None:
        """Code with the transform, unless plain coding, of `plain` bits roughly, is cheaper."""
        assert self._coding is not None
        index = transform.search(feature)
        values = transform.forward(feature, self._geometry, span, index)
        if sum(map(self._rough_bits, values)) >= _SURELY_CHEAPER * plain:
            return None
        layout = transform.layout(self._geometry, span, index)
        assert layout is not None  # the span is one of the transform's own
        side = Side(False, 0, index, NO_INDEX, NO_INDEX)
        offsets, step_exponent = self._coding.offsets, self._settings.step_exponent
        coded = quantise_values(values, layout, offsets, side, step_exponent, self._rounding)
        return self._way(span, coded)

    def _one_sided_way(self, feature: Floats, span: range, transform: OneSided) -> Way | None:
        """Code by contexts, unless something is below zero."""
        assert self._coding is not None
        settings, offsets = self._settings, self._coding.offsets.offsets
        if not transform.holds(feature, step_size(settings.step_exponent)):
            return None
        walked = transform.walk(self._geometry, span, offsets, settings.step_exponent)
        assert walked is not None  # likewise
        symbols, _ = quantise_walk(feature, walked, walked.weights.thresholds(settings.bit_worth))
        return (*self._write(span, symbols, NO_SIDE), None)

    def _way(self, span: range, coded: Quantised) -> Way:
        return (*self._write(span, coded.symbols, coded.side), coded)

    def _write(
        self, span: range, symbols: Symbols | TrellisSymbols | OneSidedSymbols, side: Side
    ) -> tuple[bytes, bytes]:
        table, updates = None, 0
        if self._coding is not None and not side.plain:
            table, updates = self._coding.index_table, self._coding.updates
        header, header_bytes = self._header, self._header_bytes
        chunk, fields = encode_symbols(span, symbols, side, table, header, header_bytes, updates)
        return fields, write_body(chunk)


def _least_plain_bits(rough: float) -> float:
    """Return bits a feature at which the profile's way is surely better: plainly it takes far more.

    From a rough count of them; the numbers are of features of many kinds, at 5 to 30 dB.
    """
    return min(1.7 * rough, rough + 1.4) if rough > 0.4 else 0.0


def _size(way: Way) -> int:
    return len(way[0]) + len(way[1])


@functools.lru_cache(maxsize=256)
def _header(
    geometry: Geometry, settings: Settings, framing: Framing, digest: bytes | None, adaptive: bool
) -> Header:
    """Return the header of a bitstream; a session has the same few again and again."""
    header = Header(
        tokens=geometry.tokens,
        channels=geometry.channels,
        step_exponent=settings.step_exponent,
        grid=geometry.grid,
        profile=digest,
        energy=None if digest else settings.energy,
        trellis=settings.effort == "trellis",
        midpoint=settings.midpoint,
        adaptive=adaptive,
    )
    return header_of_session(header) if framing == "session" else header
