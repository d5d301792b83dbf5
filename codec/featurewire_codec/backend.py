"""Which loops run: the compiled ones where numba imports, else numpy and constriction.

Both give the same bytes. `FEATUREWIRE_KERNELS=off` chooses the latter.
"""

import functools
import logging
import os
import threading
from types import ModuleType
from typing import NamedTuple

from .errors import FeatureError

VARIABLE = "FEATUREWIRE_KERNELS"
_logger = logging.getLogger(__name__)
_COMPILING = "compiling the codec's loops, once on this machine: some 20 seconds"
_QUICKLY_S = 3.0  # kernels that were compiled before are there by then


class Backend(NamedTuple):
    """The modules that hold the loops, or their twins; `fields` packs and unpacks raw bits.

    `contexts` and `parts` are the one-sided mode's.
    """

    name: str
    panels: ModuleType
    coder: ModuleType
    trellis: ModuleType
    fields: ModuleType
    contexts: ModuleType
    parts: ModuleType


@functools.cache
def load_backend() -> Backend:
    """Import the loops; compiled ones are ready when this returns.

    Raises:
        FeatureError: the variable has another value than on or off.
    """
    wanted = os.environ.get(VARIABLE, "on")
    if wanted not in ("on", "off"):
        raise FeatureError(f"{VARIABLE} is {wanted!r}, on or off is allowed")
    if wanted == "on":
        note = threading.Timer(_QUICKLY_S, _logger.warning, (_COMPILING,))
        note.daemon = True
        note.start()
        try:
            from .kernels import ans, fields, one_sided, panels, trellis
        except ImportError:  # numba has no wheel for every machine
            pass
        else:
            return Backend("numba", panels, ans, trellis, fields, one_sided, one_sided)
        finally:
            note.cancel()
    from . import entropy_coder, one_sided_symbols
    from . import one_sided as plain_one_sided
    from . import panels as plain_panels
    from . import trellis as plain_trellis

    return Backend(
        "constriction",
        plain_panels,
        entropy_coder,
        plain_trellis,
        entropy_coder,
        plain_one_sided,
        one_sided_symbols,
    )
