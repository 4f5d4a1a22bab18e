"""The server: embeddings and search over HTTP, from one process, for many clients at once.

Names load on first use: `ragvec search` looks for a running server without importing a web framework.
"""

from typing import TYPE_CHECKING

from ragvec.lazy import lazy_names

if TYPE_CHECKING:
    from ragvec.serve.app import create_app
    from ragvec.serve.batcher import Batcher
    from ragvec.serve.limits import Limits
    from ragvec.serve.run import serve
    from ragvec.serve.service import Service

_LAZY = {
    "Batcher": "ragvec.serve.batcher",
    "Service": "ragvec.serve.service",
    "Limits": "ragvec.serve.limits",
    "create_app": "ragvec.serve.app",
    "serve": "ragvec.serve.run",
}
__all__ = ["Batcher", "Service", "Limits", "create_app", "serve"]
__getattr__ = lazy_names(__name__, _LAZY)
