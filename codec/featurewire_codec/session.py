"""A session: one end of an ordered stream of bitstreams, whose codewords adapt on the way."""

from .codec import FeatureCodec
from .errors import ProfileError
from .profile import Profile
from .span import Coding


class SessionCodec(FeatureCodec):
    """Encodes or decodes the bitstreams of one session, in order, in the session's framing.

    After each chunk both ends move the codewords towards the tokens that were decoded, from
    integers alone: what the profile was not calibrated on gets cheaper as the session goes on. An
    object is one end of one direction, and of one thread: it either encodes or decodes. A bitstream
    that is not the next one is a ChunkError, unless all of it is coded plainly or it begins with a
    reset; the encoding end then resets. It does so by itself after an encoding that was refused or
    not run to its end. A profile without a codebook has nothing to adapt.
    """

    def __init__(self, profile: Profile) -> None:
        """Raises ProfileError when what is given is no profile."""
        super().__init__(profile, framing="session")
        if profile is None:
            raise ProfileError("a session's codewords need a profile: see from_pretrained")
        self._adapting = self._coding = Coding(profile, adaptive=True)

    def reset(self) -> None:
        """Go back to the profile's own codewords; the next bitstream tells the other end to."""
        self._adapting.reset()
