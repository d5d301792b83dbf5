"""The encoder: a feature and the settings of one bitstream in, its chunks out."""

import functools
import math
from collections.abc import Callable, Iterator
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
from .span import (
    Coding,
    Quantised,
    quantise_plain,
    quantise_values,
    rebuild,
    rounding_for,
    squared_steps_for,
)
from .transform import NO_INDEX, Floats, Geometry, Transform, plain_transform
from .trellis import TrellisSymbols

CHUNK_FEATURES = 1 << 18  # about 64 KiB at 2 bits a feature
ADAPTING_TOKENS = 64  # in a chunk, when codewords adapt after each
Framing = Literal["file", "session"]
# By a rough count of bits: beyond this ratio, the profile's way to code a chunk is not even tried.
_SURELY_CHEAPER = 1.25
# Of bits a feature: from here on, what was coded is surely worth more than nothing at all.
_SURELY_WORTH_IT = 0.2


@dataclass(frozen=True)
class Way:
    """A span [tokens, channels] coded one way: a chunk's fields and what follows them.

    decode: returns the values that the decoder makes of them. learnt: what codewords may learn
    from.
    """

    feature: Floats
    fields: bytes
    body: bytes
    decode: Callable[[], Floats]
    learnt: Quantised | None = None

    @property
    def bits(self) -> int:
        """What the chunk takes without its frame."""
        return 8 * (len(self.fields) + len(self.body))

    @functools.cached_property
    def error(self) -> float:
        """The sum of squared errors."""
        return max(_energy(self.decode() - self.feature), 1e-300)


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
        if own is None or own.bits > feature.size * _least_plain_bits(rough / feature.size):
            plain = self._plain_way(feature, span)
            way = plain if own is None or _is_better(plain, own) else own
        assert way is not None
        if way.bits < _SURELY_WORTH_IT * feature.size and self._is_worthless(way):
            way = self._plain_way(np.zeros_like(feature), span)
        if self._coding is not None and way.learnt is not None:
            self._coding.learn(way.learnt, self._settings.step_exponent)
        return way.fields, way.body

    def _rough_bits(self, values: Floats) -> float:
        scale = 1.0 / step_size(self._settings.step_exponent)
        return float(load_backend().panels.rough_bits(values.ravel(), scale)) / 2.0**23

    def _is_worthless(self, way: Way) -> bool:
        """Whether zeros alone are the better choice.

        Rounding weighs bits by the model; a span that does not fit it, or what is sent beside the
        indices, can cost more than they bring. A bit is worth what it is to the quantiser, but no
        more than the first one of a Gaussian variable brings (6 dB a bit).
        """
        worth = squared_steps_for(self._settings.effort, self._settings.bit_worth)
        worth *= step_size(self._settings.step_exponent) ** 2
        energy = _energy(way.feature)
        worth = min(worth, 2.0 * math.log(2.0) * energy / way.feature.size)
        return energy - way.error < worth * way.bits

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

        def decode() -> Floats:
            rebuilt = rebuild(coded.symbols, coded.panels, step_exponent, self._settings.midpoint)
            return transform.inverse(rebuilt, self._geometry, span, index)

        return Way(feature, *self._write(span, coded.symbols, coded.side), decode, coded)

    def _plain_way(self, feature: Floats, span: range) -> Way:
        step_exponent = self._settings.step_exponent
        coded = quantise_plain(feature, step_exponent, self._rounding)

        def decode() -> Floats:
            return rebuild(coded.symbols, coded.panels, step_exponent, self._settings.midpoint)[0]

        return Way(feature, *self._write(span, coded.symbols, coded.side), decode)

    def _one_sided_way(self, feature: Floats, span: range, transform: OneSided) -> Way | None:
        """Code by contexts, unless something is below zero."""
        assert self._coding is not None
        settings, offsets = self._settings, self._coding.offsets.offsets
        if not transform.holds(feature, step_size(settings.step_exponent)):
            return None
        walked = transform.walk(self._geometry, span, offsets, settings.step_exponent)
        assert walked is not None  # likewise
        thresholds = walked.weights.thresholds(settings.bit_worth)
        symbols, values = quantise_walk(feature, walked, thresholds)
        return Way(feature, *self._write(span, symbols, NO_SIDE), lambda: values)

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


def _energy(values: Floats) -> float:
    return float(np.sum(np.square(values, dtype=np.float64)))  # float32 holds no squares of 1e-23


def _is_better(plain: Way, own: Way) -> bool:
    """Whether plain coding takes fewer bits at the same error.

    A bit for every feature point is worth 6 dB.
    """
    octaves = 0.5 * math.log2(plain.error / own.error)
    return own.bits - plain.bits > own.feature.size * octaves


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
