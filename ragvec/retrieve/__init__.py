"""Retrieval: text in, hits out; by vectors, by words, or by both; filtered, grouped, diversified, scored again.

What finds loads on first use: the command line needs a request's choices and defaults, and perhaps no more.
"""

from typing import TYPE_CHECKING

from ragvec.lazy import lazy_names
from ragvec.retrieve.request import DEFAULT_MODE, DEFAULTS, FUSIONS, MODES, Fusion, Group, Mode, Options, Request, check_queries

if TYPE_CHECKING:
    from ragvec.retrieve.rerank import MAXSIM, Reranker, load_reranker
    from ragvec.retrieve.retriever import Retriever, open_retriever

_LAZY = {
    "MAXSIM": "ragvec.retrieve.rerank",
    "Reranker": "ragvec.retrieve.rerank",
    "load_reranker": "ragvec.retrieve.rerank",
    "Retriever": "ragvec.retrieve.retriever",
    "open_retriever": "ragvec.retrieve.retriever",
}
__all__ = [
    "DEFAULTS",
    "DEFAULT_MODE",
    "FUSIONS",
    "Fusion",
    "Group",
    "MAXSIM",
    "MODES",
    "Mode",
    "Options",
    "Request",
    "Reranker",
    "Retriever",
    "check_queries",
    "load_reranker",
    "open_retriever",
]
__getattr__ = lazy_names(__name__, _LAZY)
