"""Retrieval: text in, hits out; by vectors, by words, or by both; filtered, grouped, diversified, scored again."""

from ragvec.retrieve.fusion import FUSION_CONSTANT, FUSION_DEPTH, fuse
from ragvec.retrieve.request import FUSIONS, MODES, Request, check_queries
from ragvec.retrieve.rerank import MAXSIM, Reranker, load_reranker
from ragvec.retrieve.retriever import Retriever, open_retriever

__all__ = [
    "FUSIONS",
    "FUSION_CONSTANT",
    "FUSION_DEPTH",
    "MAXSIM",
    "MODES",
    "Request",
    "Reranker",
    "Retriever",
    "check_queries",
    "fuse",
    "load_reranker",
    "open_retriever",
]
