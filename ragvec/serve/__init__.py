"""The server: embeddings and search over HTTP, from one process, for many clients at once.

Names load on first use: `ragvec search` looks for a running server without importing a web framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragvec.serve.app import create_app
    from ragvec.serve.batcher import Batcher
    from ragvec.serve.limits import Limits
    from ragvec.serve.run import serve
    from ragvec.serve.service import Service

_LAZY = {"Batcher": "batcher", "Service": "service", "Limits": "limits", "create_app": "app", "serve": "run"}
__all__ = ["Batcher", "Service", "Limits", "create_app", "serve"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"ragvec.serve.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'ragvec.serve' has no attribute {name!r}")
