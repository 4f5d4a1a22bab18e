"""Indices behind `ragvec serve` on other machines, searched as one with each other and with folders here."""

from typing import TYPE_CHECKING

from ragvec.lazy import lazy_names

if TYPE_CHECKING:
    from ragvec.remote.server import Server, ServerFailed
    from ragvec.remote.together import Together

_LAZY = {
    "Server": "ragvec.remote.server",
    "ServerFailed": "ragvec.remote.server",
    "Together": "ragvec.remote.together",
}
__all__ = ["Server", "ServerFailed", "Together"]
__getattr__ = lazy_names(__name__, _LAZY)
