"""The errors of the codec: every failure that input can cause is one of these leaves.

    CodecError
    ├── FeatureError      a feature, file or setting that cannot be encoded or calibrated from
    ├── ProfileError      a profile that is damaged, or is not the one a bitstream was made with
    ├── TableError        entropy-model tables that are damaged, or cannot be built
    └── BitstreamError    bytes that are no valid bitstream
        └── ChunkError    one chunk is damaged; the chunks after it still decode

A message says what was found and what is allowed, in one sentence.
"""


class CodecError(Exception):
    """Root of the codec's errors: catch this to catch all of them."""


class FeatureError(CodecError):
    """What was given to encode or calibrate from is not a finite float [tokens, channels]."""


class ProfileError(CodecError):
    """A profile folder is damaged, or the bitstream was made with another profile."""


class TableError(CodecError):
    """The entropy model's tables are damaged, or their histograms leave a class empty."""


class BitstreamError(CodecError):
    """The bytes are no bitstream that this version decodes."""


class ChunkError(BitstreamError):
    """One chunk is damaged, repeated or out of place; a Decoder goes on with the next one."""


class CalibrationWarning(UserWarning):
    """A profile was calibrated on too few tokens, or on ones that do not stand for others."""
