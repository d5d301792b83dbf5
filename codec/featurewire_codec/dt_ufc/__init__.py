"""DT-UFC, the published method (arXiv 2506.16495), clean-room: for comparison with our own.

    codec = DtUfcCodec(DtUfcProfile.calibrate(samples))
    feature = codec.decode(codec.encode(feature, snr_db=8.0))

`DtUfcCodec()` alone needs no profile. README.md beside this file says how it
differs from the paper.
"""

from .codec import DtUfcCodec
from .profile import DtUfcProfile

__all__ = ["DtUfcCodec", "DtUfcProfile"]
