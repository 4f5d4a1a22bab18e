"""From a row's fields to a document: which field is id, title and text, and what a value may be."""

import logging
import math
from collections.abc import Mapping, Sequence
from reprlib import repr as short
from typing import Any, NamedTuple

import orjson

from ragvec.arguments import wrong_type
from ragvec.corpus.ids import Ids
from ragvec.corpus.nested import inner, named, without
from ragvec.corpus.tables import text_columns
from ragvec.corpus.values import typed
from ragvec.corpus.vectors import VectorField
from ragvec.errors import WrongInput
from ragvec.records import Document

ID_FIELDS = ("_id", "id", "docid", "doc_id")
TEXT_FIELDS = ("text", "contents", "content", "body")
TITLE_FIELDS = ("title",)
LONG_LIST = 64  # numbers from which on a list looks like a vector
Steps = tuple[str, ...]  # from an object to a field in it
_log = logging.getLogger("ragvec")
_BETWEEN_FIELDS = "\n\n"  # a paragraph's end, so that passages break there


class FieldNames(NamedTuple):
    """Which fields to read; the usual names where none are given. Case does not matter.

    text   the fields that make the text, in order, a paragraph each; one of them at least must be there. doc.text is in doc
    id     the field that holds the id, which then every row must have
    joined    the columns of a table without a text column that make its text, as `column: value` lines
    vector    the field that holds the document's vector, which then every row must have
    metadata  the fields that become metadata; None = all that are left over. drop: those that do not
    """

    text: tuple[str, ...] = ()
    id: str | None = None
    joined: tuple[str, ...] = ()
    vector: VectorField | None = None
    metadata: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()

    def for_rows(self, rows: Sequence[dict[str, Any]], *, optional: bool, table: bool) -> "FieldNames":
        """What to read in a file that begins with these rows.

        optional   fields that none of them has are read by their usual names; table: what has no text column is joined
        """
        there = {name.lower() for row in rows for name in row}
        names = self
        if optional and rows:
            lacks_text = not any(named(row, name) for name in self.text for row in rows)
            lacks_id = self.id is not None and not any(named(row, self.id) for row in rows)
            names = self._replace(text=() if lacks_text else self.text, id=None if lacks_id else self.id)
        if not table or names.text or not there.isdisjoint(TEXT_FIELDS):
            return names
        id_name = next((name for name in ((names.id.lower(),) if names.id else ID_FIELDS) if name in there), "")
        vector_name = names.vector.name.lower() if names.vector else ""
        return names._replace(joined=text_columns(rows, (id_name, vector_name, *TITLE_FIELDS)))


def to_document(fields: dict[str, Any], place: str, ids: Ids, names: FieldNames, *, from_csv: bool) -> Document:
    """The document of a row. Raises RagvecError with the place for whatever is wrong with it."""
    spelled = {name.lower(): name for name in reversed(fields)}
    text, text_steps = _joined(fields, names.joined) if names.joined else _text(fields, spelled, names.text, place)
    title_name = _present(spelled, TITLE_FIELDS)
    if (title_name,) in text_steps:
        title_name = None
    title = "" if title_name is None or fields[title_name] is None else _string(fields[title_name], title_name, place)
    id_steps = named(fields, names.id) if names.id else tuple(filter(None, [_present(spelled, ID_FIELDS)]))
    given = inner(fields, id_steps) if id_steps else None
    if names.id and given in (None, ""):
        raise WrongInput(f"{place}: no id in field {names.id!r}; fields seen: {_seen(fields)}")
    vector_name, vector = names.vector.read(fields, spelled, place) if names.vector else (None, None)
    doc_id = ids.claim(given, title, text, place)
    check_characters(place, doc_id, title, text)
    rest = fields
    for steps in (id_steps, *text_steps):
        rest = without(rest, steps) if len(steps) > 1 else rest
    taken = {title_name, vector_name, *(steps[0] for steps in (id_steps, *text_steps) if len(steps) == 1)}
    metadata = wanted(_metadata(rest, taken, from_csv), names)
    check_metadata(place, metadata)
    return Document(doc_id, text, title, metadata, vector=vector)


def _text(fields: dict[str, Any], spelled: dict[str, str], wanted: tuple[str, ...], place: str) -> tuple[str, list[Steps]]:
    """The text, and the steps to the fields it came from."""
    if not wanted:
        name = _present(spelled, TEXT_FIELDS)
        if name is None:
            raise WrongInput(f"{place}: no text field (looked for {', '.join(TEXT_FIELDS)}); fields seen: {_seen(fields)}")
        if fields[name] is None:
            raise WrongInput(f"{place}: field {name!r} is null: give it a string, or remove the row")
        return _string(fields[name], name, place), [(name,)]
    found = [(steps, inner(fields, steps)) for name in wanted if (steps := named(fields, name))]
    parts = [_paragraphs(value, ".".join(steps), place) for steps, value in found if value is not None]
    if not parts:
        raise WrongInput(f"{place}: no text in the fields {', '.join(wanted)}; fields seen: {_seen(fields)}")
    return _BETWEEN_FIELDS.join(part for part in parts if part), [steps for steps, _ in found]


def _joined(fields: dict[str, Any], names: tuple[str, ...]) -> tuple[str, list[Steps]]:
    """The text of a row that has no text column, and the steps to the columns it came from."""
    given = [name for name in names if isinstance(fields.get(name), str)]
    return "\n".join(f"{name}: {value}" for name in given if (value := fields[name].strip())), [(name,) for name in given]


def _paragraphs(value: Any, name: str, place: str) -> str:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return _BETWEEN_FIELDS.join(value)
    return _string(value, name, place)


def _string(value: Any, name: str, place: str) -> str:
    if not isinstance(value, str):
        raise WrongInput(f"{place}: field {name!r} must be a string, not {short(value):.40}")
    return value


def _seen(fields: dict[str, Any]) -> str:
    names = ", ".join(f"{name}"[:300] for name, _ in zip(fields, range(50), strict=False))
    return f"{names if names.isprintable() else ascii(names)[1:-1]:.300}" or "none"


def _present(spelled: dict[str, str], wanted: Sequence[str]) -> str | None:
    """The first wanted name that the row has, as the row spells it (Text, TEXT)."""
    return next((spelled[name.lower()] for name in wanted if name.lower() in spelled), None)


def _metadata(fields: dict[str, Any], taken: set[str | None], from_csv: bool) -> dict[str, Any]:
    """What is left over; an object named metadata, as BEIR has it, is opened."""
    rest = {name: value for name, value in fields.items() if name not in taken}
    if isinstance(rest.get("metadata"), dict):
        rest = {**rest.pop("metadata"), **rest}
    if not from_csv:
        return rest
    return {name: given for name, value in rest.items() if value and (given := typed(value)) is not None}


def wanted(metadata: dict[str, Any], names: FieldNames) -> dict[str, Any]:
    """The metadata that these names keep."""
    if names.metadata is None and not names.drop:
        return metadata
    kept = None if names.metadata is None else {name.lower() for name in names.metadata}
    dropped = {name.lower() for name in names.drop}
    return {
        name: value
        for name, value in metadata.items()
        if name.lower() not in dropped and (kept is None or name.lower() in kept)
    }


class NumberLists:
    """Warns of lists of numbers among the metadata, once of each field: they look like vectors, and cost as much."""

    def __init__(self) -> None:
        self._named: set[str] = set()

    def look(self, metadata: dict[str, Any]) -> None:
        """Look at a document's metadata."""
        for name, value in metadata.items():
            if isinstance(value, list) and len(value) >= LONG_LIST and name not in self._named and _are_numbers(value):
                self._named.add(name)
                _log.warning(
                    "field %r is a list of %d numbers and becomes metadata: name it as `vector_field`, or in `drop_fields`",
                    name,
                    len(value),
                )


def _are_numbers(values: list[Any]) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def check_metadata(place: str, metadata: Mapping[Any, Any]) -> None:
    """Raises WrongInput, with the field, for names and values that are not JSON. NaN is, as what is not known: null.

    Plain values fail only where they are not Unicode text, infinite, or integers beyond 64 bits.
    """
    for name, value in metadata.items():
        if not isinstance(name, str):
            raise wrong_type(f"{place}'s field", name, "name fields by strings")
        plain = value is None or isinstance(value, bool) or (type(value) is float and not math.isinf(value))
        if name.isascii() and (plain or (isinstance(value, str) and value.isascii())):
            continue
        try:
            orjson.dumps({name: value})
        except TypeError as error:
            raise WrongInput(
                f"{place}: field {short(name)} cannot be stored as JSON metadata ({error}): make it plain, or leave it out"
            ) from error
        if _holds_infinity(value):
            raise WrongInput(f"{place}: field {short(name)} holds an infinity, which JSON lacks: leave it out")


def _holds_infinity(value: Any) -> bool:
    """Of a value that orjson could write, and so is not nested without end."""
    if isinstance(value, float):
        return math.isinf(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return any(map(_holds_infinity, inner))


def check_characters(place: str, *strings: str) -> None:
    """Raises WrongInput, with the place, for what no index can keep: a NUL, half a surrogate pair."""
    for string in strings:
        if "\0" in string:
            raise WrongInput(f"{place}: a NUL character at position {string.index(chr(0))}: remove it (is this a text file?)")
        if not string.isascii():
            try:
                string.encode("utf-8")
            except UnicodeEncodeError as error:
                raise WrongInput(f"{place}: half a surrogate pair at position {error.start} is not Unicode text") from error
