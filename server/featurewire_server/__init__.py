"""The cloud: receives coded features, decodes them and runs the tail.

`Server` is imported when it is first used: torch and transformers take seconds to import, and
`featurewire-server --help` needs neither.
"""

from typing import TYPE_CHECKING, Any

from featurewire_server.config import ServerConfig

if TYPE_CHECKING:
    from featurewire_server.server import Server

__all__ = ["Server", "ServerConfig"]


def __getattr__(name: str) -> Any:
    if name != "Server":
        raise AttributeError(f"featurewire_server has no {name!r}")
    from featurewire_server.server import Server

    return Server
