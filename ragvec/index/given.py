"""What `Index.add` is given, made documents: records as they are, dicts read as rows of JSONL."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ragvec.arguments import wrong_type
from ragvec.corpus.fields import FieldNames, check_characters, check_metadata, to_document
from ragvec.corpus.ids import Ids
from ragvec.records import Document, Passage

_WANTED = 'give a Document, or a dict such as {"id": "1", "text": "…"}'
_VECTOR = "vector"  # the field of a dict that is a Document's too


def given_documents(documents: Any) -> Iterator[Document]:
    """Any iterable of Documents and dicts, one at a time.

    Raises WrongType for what is none, at once or, with its place, when its turn comes; WrongInput, with the place, for an id
    that comes twice and for what no index can keep.
    """
    if isinstance(documents, (str, bytes, Document, Mapping)) or not isinstance(documents, Iterable):
        remedy = "give a sequence of Document or dict, [document] instead of document, or a file's path to add_folder"
        raise wrong_type("documents", documents, remedy)
    return _each(documents)


def given_passages(passages: Any) -> Iterator[Passage]:
    """Any iterable of Passages. Raises WrongType for what is none."""
    if isinstance(passages, (str, bytes, Passage, Mapping)) or not isinstance(passages, Iterable):
        raise wrong_type("passages", passages, "give a sequence of Passage: [passage] instead of passage")
    for number, one in enumerate(passages):
        if not isinstance(one, Passage):
            raise wrong_type(f"passages[{number}]", one, "give a Passage")
        check_metadata(f"passages[{number}]", one.metadata)
        yield one


def _each(documents: Iterable[Any]) -> Iterator[Document]:
    ids = Ids()
    for number, one in enumerate(documents):
        place = f"documents[{number}]"
        if isinstance(one, Document):
            check_characters(place, ids.claim(one.doc_id, one.title, one.text, place), one.title, one.text)
            check_metadata(place, one.metadata)
            yield one
        elif isinstance(one, Mapping):
            yield _of_row(one, place, ids)
        else:
            raise wrong_type(place, one, _WANTED)


def _of_row(row: Mapping[Any, Any], place: str, ids: Ids) -> Document:
    for name in row:
        if not isinstance(name, str):
            raise wrong_type(f"{place}'s field", name, "name fields by strings")
    fields = {name: value for name, value in row.items() if name != _VECTOR}
    document = to_document(fields, place, ids, FieldNames(), from_csv=False)
    return document if row.get(_VECTOR) is None else replace(document, vector=row[_VECTOR])
