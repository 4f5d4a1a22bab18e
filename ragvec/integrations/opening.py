"""Opening an index for a framework: what is asked of every query is checked before the encoder is loaded."""

from pathlib import Path
from typing import Any

from ragvec.retrieve import Request, Retriever, open_retriever


def check_options(k: int, options: dict[str, Any]) -> None:
    """Raises RagvecError for arguments of `Retriever.retrieve` out of their range, TypeError for unknown ones."""
    Request(k=k, **{name: value for name, value in options.items() if name != "instruction"})


def open_index(path: str | Path, k: int, rerank: str | None, options: dict[str, Any]) -> Retriever:
    """A Retriever over an index folder, with the encoder it was built with, for queries with these options.

    Raises as `check_options`, and RagvecError if there is no index or what it needs can't be loaded.
    """
    check_options(k, options)
    needed = {name: options[name] for name in ("mode", "where") if name in options}
    return open_retriever(path, rerank=rerank, **needed)
