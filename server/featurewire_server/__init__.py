"""The cloud: receives coded features, decodes them and runs the tail."""

from featurewire_server.config import ServerConfig
from featurewire_server.server import Server

__all__ = ["Server", "ServerConfig"]
