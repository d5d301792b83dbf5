"""A cache for functions of arrays and the like: known by identity, as they are not hashed quickly.

What is cached is made once of arguments that are there for good, and that no one writes to.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

_MOST = 16
Made = TypeVar("Made")


def cached_by_identity(make: Callable[..., Made]) -> Callable[..., Made]:
    """Cache what a function makes of the same objects; it keeps the objects too."""
    known: dict[tuple[int, ...], tuple[tuple[Any, ...], Made]] = {}

    @functools.wraps(make)
    def find(*arguments: Any) -> Made:
        key = tuple(map(id, arguments))
        entry = known.get(key)
        if entry is None:
            if len(known) >= _MOST:
                known.clear()
            entry = known[key] = arguments, make(*arguments)
        return entry[1]

    return find
