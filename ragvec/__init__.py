"""Vector search and RAG on LLM2Vec embeddings.

The public names load on first use, so that `import ragvec` costs nothing.
"""

from typing import TYPE_CHECKING

from ragvec.errors import RagvecError
from ragvec.lazy import lazy_names
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
__getattr__ = lazy_names(__name__, _LAZY)


def __dir__() -> list[str]:
    return sorted(__all__)
