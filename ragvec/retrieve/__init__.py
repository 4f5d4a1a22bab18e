"""Retrieval: text in, hits out; by vectors, by words, or by both; filtered, grouped, diversified, scored again.

What finds loads on first use: the command line needs a request's choices and defaults, and perhaps no more.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ragvec.retrieve.request import DEFAULT_MODE, DEFAULTS, FUSIONS, MODES, Fusion, Group, Mode, Options, Request, check_queries

if TYPE_CHECKING:
    from ragvec.retrieve.rerank import MAXSIM, Reranker, load_reranker
    from ragvec.retrieve.retriever import Retriever, open_retriever

_LAZY = {
    "MAXSIM": "rerank",
    "Reranker": "rerank",
    "load_reranker": "rerank",
    "Retriever": "retriever",
    "open_retriever": "retriever",
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


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"ragvec.retrieve.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'ragvec.retrieve' has no attribute {name!r}")
