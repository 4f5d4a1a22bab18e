"""Documents like one of the index's own: its vector is there already, and nothing is encoded."""

from dataclasses import replace

import numpy as np

from ragvec.corpus.spelling import composed
from ragvec.errors import NotFound, WrongInput
from ragvec.index import Index, store
from ragvec.records import FilterValues, Hit
from ragvec.retrieve.request import DEFAULTS, Request
from ragvec.retrieve.retriever import Retriever


def similar_documents(
    index: Index,
    doc_id: str,
    *,
    passage_id: str | None = None,
    k: int = DEFAULTS["k"],
    where: str | None = None,
    where_values: FilterValues | None = None,
) -> list[Hit]:
    """The k documents nearest to one of the index, each by its best passage, best first; the document itself is left out.

    passage_id  of the document: what is near this passage; None = near the mean of all its passages
    where       only passages that meet this filter, with where_values for each $name in it
    Raises NotFound for a document or a passage that is not there, WrongInput for one without a text and for a wrong filter.
    """
    with index.reading() as view:
        doc_id = store.spelled(view.connection, doc_id)
    vector = _vector_of(index, doc_id, passage_id)
    # one more, for the document itself
    request = Request(vector=vector, k=k + 1, group_by="doc_id", where=where, where_values=where_values)
    others = [hit for hit in Retriever(index).answer(request) if hit.doc_id != doc_id]
    return [replace(hit, rank=rank) for rank, hit in enumerate(others[:k], 1)]


def _vector_of(index: Index, doc_id: str, passage_id: str | None) -> np.ndarray:
    with index.reading() as view:
        passages = store.passages_of(view.connection, doc_id, "NULL")
        if not passages:
            raise NotFound(f"there is no document {doc_id!r}")
        chosen = [one for name, one in passages.items() if passage_id is None or composed(name) == composed(passage_id)]
        if not chosen:
            raise NotFound(f"document {doc_id!r} has no passage {passage_id!r}")
        vectors = view.vectors([passage.id for passage in chosen])
    vectors = vectors[vectors.any(axis=1)]
    if not len(vectors):
        raise WrongInput(f"document {doc_id!r} has no text there that others could be like")
    mean: np.ndarray = vectors.mean(axis=0)
    length = float(np.linalg.norm(mean))
    return mean / length if index.settings.normalized and length else mean
