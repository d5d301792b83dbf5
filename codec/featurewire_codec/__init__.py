"""featurewire's universal feature codec.

    codec = FeatureCodec(Profile.from_pretrained(folder))
    data = codec.encode(feature, snr_db=25.0)       # feature: float [tokens, channels]
    feature = codec.decode(data)                    # torch.float32 [tokens, channels]

`FeatureCodec()` alone needs no profile. BITSTREAM.md specifies the bytes.
"""

from .codec import FeatureCodec
from .decoder import Decoder, Rows
from .errors import (
    BitstreamError,
    CalibrationWarning,
    ChunkError,
    CodecError,
    FeatureError,
    ProfileError,
    TableError,
)
from .inspection import Inspection, inspect
from .profile import Profile
from .session import SessionCodec

__all__ = [
    "BitstreamError",
    "CalibrationWarning",
    "ChunkError",
    "CodecError",
    "Decoder",
    "FeatureCodec",
    "FeatureError",
    "Inspection",
    "Profile",
    "ProfileError",
    "Rows",
    "SessionCodec",
    "TableError",
    "inspect",
]
