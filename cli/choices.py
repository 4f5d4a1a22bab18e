"""Choices that more than one command offers."""

from enum import Enum


class Mode(str, Enum):
    """How passages are found."""

    hybrid = "hybrid"
    dense = "dense"
    lexical = "lexical"


class Fusion(str, Enum):
    """How hybrid retrieval makes one ranking of two."""

    weighted = "weighted"
    rrf = "rrf"
