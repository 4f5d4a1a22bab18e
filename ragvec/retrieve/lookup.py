"""What an index holds, without a search: documents by id, in order or by a filter, and the values that filters may ask for."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from ragvec.arguments import strings, whole
from ragvec.errors import NotFound, WrongUsage
from ragvec.index import Index, store
from ragvec.index.where import parse_field
from ragvec.records import Document, FilterValue, FilterValues, Passage
from ragvec.retrieve.searched import Searched

LEAST_OVERLAP = 12  # characters that must repeat for them to count as an overlap of passages
FEW = 50_000  # passages that meet a filter whose documents are looked up; where more do, all documents are passed by
_OF_PARTS = ("page", "heading")  # metadata that passages of one document may differ in
_BLOCK = 256  # documents that are read together


class ValueCount(NamedTuple):
    """A value of a field, and how many documents have it."""

    value: FilterValue
    documents: int


def stored_documents(
    index: Index,
    doc_ids: Iterable[str] | None = None,
    *,
    where: str | None = None,
    where_values: FilterValues | None = None,
    offset: int = 0,
    limit: int | None = None,
) -> Iterator[Document]:
    """The documents of an index, some at a time, however many there are.

    doc_ids  these, in their order; None = all, in the order of their ids' bytes
    where    only documents of which a passage meets this filter, with where_values for each $name in it
    offset   documents to pass over, for pages; limit: most documents, None = all that are left

    Of a document that was cut into passages the text is joined from them: what a passage repeats of the one before is left
    out, and white space that stood where it was cut is an empty line.
    No writer has to wait until all were read: each document is whole, but what changes meanwhile may or may not be among them.
    Raises NotFound for an id that is not there, before any document; WrongInput for a wrong filter.
    """
    if doc_ids is not None and where is not None:
        raise WrongUsage("documents are named and a filter is given: choose one")
    _check_page(offset, limit)
    named = _doc_ids(index, where, where_values) if doc_ids is None else iter(_all_there(index, doc_ids))
    wanted = islice(named, offset, None if limit is None else offset + limit)
    while block := list(islice(wanted, _BLOCK)):
        with index.reading() as view:
            documents = store.read_documents(view.connection, block)
        yield from (whole_document(documents[doc_id]) for doc_id in block if doc_id in documents)


def stored_count(index: Index, *, where: str | None = None, where_values: FilterValues | None = None) -> int:
    """How many documents an index holds, or of how many a passage meets a filter; raises as `stored_documents`."""
    if where is not None:
        return sum(1 for _ in _doc_ids(index, where, where_values))
    with index.reading() as view:
        return store.count(view.connection, "DISTINCT doc_id")


def distinct_values(
    index: Index,
    field: str,
    *,
    where: str | None = None,
    where_values: FilterValues | None = None,
    offset: int = 0,
    limit: int | None = None,
) -> list[ValueCount]:
    """The values of a field, as a filter may name it, and how many documents have each: the most frequent first, then by value.

    Each element of a list counts. where, offset, limit as for `stored_documents`, of values.
    Raises WrongInput for a field that no document has, and for a wrong filter.
    """
    _check_page(offset, limit)
    with index.reading() as view:
        path = parse_field(field, view.fields())
        asked = None if where is None else view.check_where(where, where_values)
        counted = store.count_values(view.connection, path, asked, limit=limit, offset=offset)
        return [ValueCount(*one) for one in counted]


def read_document(index: Searched, doc_id: str) -> list[Passage]:
    """The passages of a document in their order; none if there is no such document."""
    with index.reading() as view:
        return view.document(doc_id)


def whole_document(passages: Sequence[Passage]) -> Document:
    """A document from its passages in order, of which there is one at least."""
    first = passages[0]
    text = first.text if len(passages) == 1 else whole_text(passages)
    metadata = {
        name: value
        for name, value in first.metadata.items()
        if name not in _OF_PARTS or all(passage.metadata.get(name) == value for passage in passages)
    }
    return Document(first.doc_id, text, first.title, metadata)


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


def metadata_fields(index: Searched) -> list[str]:
    """The names of the metadata fields that a filter may use."""
    with index.reading() as view:
        return view.fields()


def _doc_ids(index: Index, where: str | None, where_values: FilterValues | None) -> Iterator[str]:
    """The ids of all documents, or of those that meet a filter, in order; no transaction is open between two of them."""
    among = None
    if where is not None:
        with index.reading() as view:
            among = view.matching(where, where_values)
            few = view.doc_ids(among.tolist()) if len(among) <= FEW else None
        if few is not None:
            yield from sorted(set(few), key=str.encode)
            return
    last = None
    while True:
        with index.reading() as view:
            block = store.doc_ids_after(view.connection, last)
            wanted = block if among is None or not block else store.having(view.connection, block, among)
        if not block:
            return
        yield from wanted
        last = block[-1]


def _all_there(index: Index, doc_ids: Iterable[str]) -> list[str]:
    """The ids as the index spells them, each once. Raises NotFound for those that no document has."""
    doc_ids = strings("doc_ids", doc_ids, "doc_id")
    with index.reading() as view:
        named = list(dict.fromkeys(store.spelled(view.connection, doc_id) for doc_id in doc_ids))
        missing = [doc_id for doc_id in named if not store.ids_of(view.connection, doc_id)]
    if missing:
        more = f", nor are {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise NotFound(f"there is no document {missing[0]!r}{more}")
    return named


def _check_page(offset: int, limit: int | None) -> None:
    if whole("offset", offset) < 0 or (limit is not None and whole("limit", limit) < 1):
        raise WrongUsage(f"offset is {offset}, limit {limit}: pass over 0 or more, and ask for 1 or more")
