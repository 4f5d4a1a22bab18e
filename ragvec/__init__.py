"""Vector search and RAG on LLM2Vec embeddings.

The public names load on first use, so that `import ragvec` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ragvec.errors import RagvecError
from ragvec.records import Document, Hit, Passage

if TYPE_CHECKING:
    from ragvec.answers import Answerer, ask
    from ragvec.encoder import Encoder
    from ragvec.index import Index
    from ragvec.retrieve import Retriever

__version__ = "0.1.0"
_LAZY = {
    "Answerer": "ragvec.answers",
    "Encoder": "ragvec.encoder",
    "Index": "ragvec.index",
    "Retriever": "ragvec.retrieve",
    "ask": "ragvec.answers",
}
__all__ = ["Answerer", "Document", "Encoder", "Hit", "Index", "Passage", "RagvecError", "Retriever", "__version__", "ask"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ragvec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
