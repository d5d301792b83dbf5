"""Refusals that several parts of a session make."""

from featurewire.wire.status import Refusal


def out_of_order(found: str, expected: str) -> Refusal:
    """A message came at the wrong time."""
    message = f"{found} came where {expected} was expected"
    return Refusal("MESSAGE_OUT_OF_ORDER", message, found=found, allowed=expected)


def too_large(what: str, found: int, allowed: int) -> Refusal:
    """A count is beyond its limit."""
    message = f"{what} are {found}; between 1 and {allowed} are allowed"
    return Refusal("TOO_LARGE", message, found=str(found), allowed=str(allowed))
