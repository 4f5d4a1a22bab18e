"""Choices that more than one command offers."""

from enum import Enum
from typing import Annotated

import typer

Offline = Annotated[
    bool, typer.Option("--offline", help="Never ask the hub for a model, not even for one that the index names.")
]


class Mode(str, Enum):
    """How passages are found."""

    hybrid = "hybrid"
    dense = "dense"
    lexical = "lexical"


class Fusion(str, Enum):
    """How hybrid retrieval makes one ranking of two."""

    weighted = "weighted"
    rrf = "rrf"
