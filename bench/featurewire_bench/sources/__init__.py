"""Where the features come from that codecs are measured on: real ones, or none."""

from .source import Array, Grid, Part, Source

__all__ = ["Array", "Grid", "Part", "Source"]
