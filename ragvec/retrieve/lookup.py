"""A document by its id, and what can be filtered on, from an index."""

from collections.abc import Sequence

from ragvec.index import Index
from ragvec.records import Passage

LEAST_OVERLAP = 12  # characters that must repeat for them to count as an overlap of passages


def read_document(index: Index, doc_id: str) -> list[Passage]:
    """The passages of a document in their order; none if there is no such document."""
    with index.reading() as view:
        return view.document(doc_id)


def whole_text(passages: Sequence[Passage]) -> str:
    """A document's text from its passages in order; what a passage repeats from the end of the one before is left out."""
    text = ""
    for passage in passages:
        repeated = _overlap(text, passage.text)
        text += passage.text[repeated:] if repeated or not text else f"\n\n{passage.text}"
    return text


def _overlap(before: str, after: str) -> int:
    lengths = range(min(len(before), len(after)), LEAST_OVERLAP - 1, -1)
    return next((length for length in lengths if before.endswith(after[:length])), 0)


def metadata_fields(index: Index) -> list[str]:
    """The names of the metadata fields that a filter may use."""
    with index.reading() as view:
        return view.fields()
