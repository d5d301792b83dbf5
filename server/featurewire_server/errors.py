"""Errors of the server's start.

ServerError
└── ListenError    an address cannot be listened on
"""


class ServerError(Exception):
    """Any failure of the server that is not a model's or the codec's."""


class ListenError(ServerError):
    """An address is taken, or is none of this machine's."""

    def __init__(self, what: str, address: str) -> None:
        super().__init__(
            f"cannot listen on {what}address {address}:"
            " it is in use, is not this machine's, or is not HOST:PORT; port 0 takes a free one"
        )
