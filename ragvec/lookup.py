"""A document by its id, from an index."""

from ragvec.index import Index
from ragvec.records import Passage


def read_document(index: Index, doc_id: str) -> list[Passage]:
    """The passages of a document in their order; none if there is no such document."""
    with index.reading() as view:
        rows = view.connection.execute("SELECT id FROM passages WHERE doc_id = ? ORDER BY id", (doc_id,))
        return view.passages([row[0] for row in rows])
