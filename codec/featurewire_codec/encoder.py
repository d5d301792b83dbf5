"""The encoder: a feature and the settings of one bitstream in, its chunks out."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .backend import load_backend
from .bitstream import Header, frame_chunk, write_body, write_header
from .coefficients import Side, encode_symbols
from .quantiser import BIT_WORTH, Effort, step_size
from .session_framing import header_of_session, write_lead
from .span import Coding, Quantised, quantise_plain, quantise_values, rounding_for
from .transform import NO_INDEX, Floats, Geometry, Transform, plain_transform

CHUNK_FEATURES = 1 << 18  # about 64 KiB at 2 bits a feature
ADAPTING_TOKENS = 64  # in a chunk, when codewords adapt after each
Framing = Literal["file", "session"]
# By a rough count of bits: beyond this ratio, the dearer way to code a chunk is not even tried.
_SURELY_CHEAPER = 1.25


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

    def _encode_span(self, feature: Floats, span: range) -> tuple[bytes, bytes]:
        """Code a span the cheapest of the open ways: its fields, and what follows them."""
        settings = self._settings
        rough, scale = load_backend().panels.rough_bits, 1.0 / step_size(settings.step_exponent)
        rounding = rounding_for(settings.effort, settings.bit_worth)
        ways: list[tuple[bytes, bytes, Quantised]] = []
        plain = True
        if self._coding is not None and not settings.plain:
            transform = self._coding.transform
            index = transform.search(feature)
            values = transform.forward(feature, self._geometry, span, index)
            own = sum(rough(part.ravel(), scale) for part in values)
            other = rough(feature.ravel(), scale)
            plain = other < _SURELY_CHEAPER * own
            if own < _SURELY_CHEAPER * other:
                layout = transform.layout(self._geometry, span, index)
                assert layout is not None  # the span is one of the transform's own
                side = Side(False, 0, index, NO_INDEX, NO_INDEX)
                offsets, step_exponent = self._coding.offsets, settings.step_exponent
                coded = quantise_values(values, layout, offsets, side, step_exponent, rounding)
                ways.append(self._write(span, coded))
            else:
                plain = True
        if plain:
            ways.append(
                self._write(span, quantise_plain(feature, settings.step_exponent, rounding))
            )
        fields, body, kept = min(ways, key=lambda way: len(way[0]) + len(way[1]))
        if self._coding is not None and not kept.side.plain:
            self._coding.learn(kept, settings.step_exponent)
        return fields, body

    def _write(self, span: range, coded: Quantised) -> tuple[bytes, bytes, Quantised]:
        table, updates = None, 0
        if self._coding is not None and not coded.side.plain:
            table, updates = self._coding.index_table, self._coding.updates
        header, header_bytes = self._header, self._header_bytes
        chunk, fields = encode_symbols(
            span, coded.symbols, coded.side, table, header, header_bytes, updates
        )
        return fields, write_body(chunk), coded


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
