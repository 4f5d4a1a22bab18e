"""A document by its id, and what can be filtered on, from an index."""

from ragvec.index import Index
from ragvec.index.store import read_fields
from ragvec.records import Passage


def read_document(index: Index, doc_id: str) -> list[Passage]:
    """The passages of a document in their order; none if there is no such document."""
    with index.reading() as view:
        rows = view.connection.execute("SELECT id FROM passages WHERE doc_id = ? ORDER BY id", (doc_id,))
        return view.passages([row[0] for row in rows])


def metadata_fields(index: Index) -> list[str]:
    """The names of the metadata fields that a filter may use."""
    with index.reading() as view:
        return read_fields(view.connection)
