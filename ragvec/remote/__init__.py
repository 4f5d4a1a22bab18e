"""Indices behind `ragvec serve` on other machines, searched as one with each other and with folders here."""

from ragvec.remote.server import Server, ServerFailed
from ragvec.remote.together import Together

__all__ = ["Server", "ServerFailed", "Together"]
