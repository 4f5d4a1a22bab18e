"""Opening an index for a framework: what is asked of every query is checked before the encoder is loaded."""

from pathlib import Path

from ragvec.retrieve import Request, Retriever, open_retriever


def open_index(path: str | Path, request: Request) -> Retriever:
    """A Retriever over an index folder, with the encoder it was built with, for queries asked as this request says.

    Raises RagvecError if there is no index, its filter is wrong, or what it needs can't be loaded.
    """
    return open_retriever(path, mode=request.chosen_mode, where=request.where, rerank=request.rerank)
