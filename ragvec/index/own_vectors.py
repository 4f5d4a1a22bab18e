"""Vectors that were made elsewhere and come with their documents: checked, and compared with those that are there."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from ragvec.arguments import array
from ragvec.errors import WrongInput
from ragvec.index.changes import Changes
from ragvec.index.store import IndexSettings
from ragvec.index.writer import Writer
from ragvec.records import Document, Passage

_BLOCK = 4096  # documents at a time

Blocks = Iterator[tuple[list[Passage], np.ndarray]]


def with_vectors(documents: Iterable[Document], vectors: np.ndarray) -> Iterator[Document]:
    """Documents with the rows of an array (n, dimension) as their vectors. Raises WrongInput unless there is one for each."""
    documents = list(documents)
    rows = array("vectors", vectors)
    if rows.ndim != 2 or len(rows) != len(documents):
        raise WrongInput(f"{len(documents):,} documents come with vectors of shape {rows.shape}: give a row for each document")
    for document, vector in zip(documents, rows, strict=True):
        yield replace(document, vector=vector)


def without_vectors(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents. Raises WrongInput for one that brings its vector, where those before it did not."""
    for document in documents:
        if document.vector is not None:
            raise WrongInput(f"document {document.doc_id!r} brings its vector and others don't: all must, or none")
        yield document


def own_blocks(documents: Iterable[Document], settings: IndexSettings) -> Blocks:
    """Documents as passages, with their vectors (n, dimension) float32, of length 1 where the index's are.

    Raises WrongInput, with the document's id, for a vector that is missing, of another length, not finite or all zeros, and
    if the index cuts documents: a vector is of the whole.
    """
    if settings.passage_tokens is not None:
        raise WrongInput(
            f"the index cuts documents into passages of {settings.passage_tokens} tokens, and vectors are of whole documents: "
            "put them into an index that does not, or cut beforehand"
        )
    stream = iter(documents)
    while block := list(islice(stream, _BLOCK)):
        passages = [Passage(one.doc_id, one.doc_id, one.text, title=one.title, metadata=one.metadata) for one in block]
        yield passages, _scaled(np.stack([_checked(one, settings.dimension) for one in block]), block, settings.normalized)


def fresh_with_vectors(streams: Iterable[Blocks], changes: Changes, writer: Writer) -> Blocks:
    """What of several sources is not in the index as it is, its vector included."""
    for place, blocks in enumerate(streams):
        changes.begin(place)
        for passages, vectors in blocks:
            rows = [
                row
                for row, (passage, vector) in enumerate(zip(passages, vectors, strict=True))
                if changes.is_fresh(passage, lambda number, vector=vector: writer.holds(number, vector))  # type: ignore[misc]
            ]
            yield [passages[row] for row in rows], vectors[rows]
        changes.finish()


def _checked(document: Document, dimension: int) -> np.ndarray:
    if document.vector is None:
        raise WrongInput(f"document {document.doc_id!r} brings no vector, others do: all must, or none")
    vector = array(f"vector of document {document.doc_id!r:.60}", document.vector)
    if vector.dtype.kind not in "fiu" or vector.shape != (dimension,):
        raise WrongInput(
            f"the vector of document {document.doc_id!r} has shape {vector.shape} and type {vector.dtype}, "
            f"the index holds {dimension}-d vectors of numbers"
        )
    with np.errstate(over="ignore"):
        return vector.astype(np.float32)


def _scaled(vectors: np.ndarray, documents: Sequence[Document], normalized: bool) -> np.ndarray:
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))
    wrong = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(wrong):
        row = int(wrong[0])
        what = "is all zeros, and points nowhere" if lengths[row] == 0 else "holds NaN or infinity"
        raise WrongInput(f"the vector of document {documents[row].doc_id!r} {what}: nothing was changed")
    return (vectors / lengths[:, None]).astype(np.float32) if normalized else vectors
