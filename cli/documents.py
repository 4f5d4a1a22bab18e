"""`ragvec documents`: what an index holds, listed, looked up, counted, or written out for another index."""

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragvec.cli.filter_values import WhereValues
from ragvec.cli.output import Form, listing, value_lines, wants_json, write_lines
from ragvec.errors import WrongUsage

if TYPE_CHECKING:
    from ragvec.records import Document

_LISTED = 20  # documents or values in a table, if nobody says
_WRITTEN = 256  # lines at a time


PAGE = "retrieval.md"
EXAMPLES = (
    "ragvec documents --count",
    "ragvec documents --where 'lang = \"ko\"' --limit 5",
    "ragvec documents --distinct lang",
    "ragvec documents > corpus.jsonl",
)


def run(
    doc_ids: Annotated[
        list[str] | None, typer.Argument(help='Ids of documents; "-" reads them from stdin, one a line.')
    ] = None,
    index: Annotated[Path, typer.Option("--index", "-i", envvar="RAGVEC_INDEX", help="Index folder.")] = Path("ragvec-index"),
    where: Annotated[str | None, typer.Option(help="Filter: only documents of which a passage meets it.")] = None,
    where_values: WhereValues = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most to list; default: all, in a table 20.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="How many to pass over, for pages.")] = 0,
    count: Annotated[bool, typer.Option("--count", help="Say only how many there are.")] = False,
    distinct: Annotated[
        str | None, typer.Option(metavar="FIELD", help="List the values of a field, with how many documents have each.")
    ] = None,
    format: Annotated[
        Form | None, typer.Option(help="Default: a table on a terminal, on a pipe JSON lines that `ragvec index` reads again.")
    ] = None,
) -> None:
    """Print documents, their number, or the values of a field."""
    from ragvec.index import Index
    from ragvec.retrieve.lookup import distinct_values, stored_count, stored_documents

    _check(doc_ids, where=where, where_values=where_values, count=count, distinct=distinct)
    named = [line for line in (line.rstrip("\r\n") for line in sys.stdin) if line] if doc_ids == ["-"] else doc_ids or None
    as_json = wants_json(format)
    limit = limit if as_json or limit else _LISTED
    asked: dict[str, Any] = {"where": where, "where_values": where_values}
    with Index.open(index) as opened:
        if count:
            number = stored_count(opened, **asked)
            write_lines([_json({"documents": number}) if as_json else f"{number:,} documents"])
        elif distinct is not None:
            values = distinct_values(opened, distinct, **asked, offset=offset, limit=limit)
            write_lines([_json(one._asdict()) for one in values] if as_json else value_lines(values))
        else:
            documents = stored_documents(opened, named, **asked, offset=offset, limit=limit)
            _write(map(_record, documents)) if as_json else write_lines(listing(list(documents)))


def _check(doc_ids: list[str] | None, *, where: str | None, where_values: object, count: bool, distinct: str | None) -> None:
    if where_values is not None and where is None:
        raise WrongUsage("values are given for a filter, and no filter: give --where too")
    if sum((bool(doc_ids), count, distinct is not None)) > 1:
        raise WrongUsage("ids of documents, --count and --distinct are different questions: ask one at a time")
    if doc_ids and where is not None:
        raise WrongUsage("say which documents: by their ids, or by --where with a filter, not both")


def _record(document: "Document") -> str:
    """A line that `ragvec index` reads as this document."""
    record = {"_id": document.doc_id, "title": document.title, "text": document.text, "metadata": document.metadata}
    return _json({name: value for name, value in record.items() if value or name in ("_id", "text")})


def _json(record: dict[str, object]) -> str:
    import orjson

    return orjson.dumps(record).decode()


def _write(lines: Iterable[str]) -> None:
    stream: Iterator[str] = iter(lines)
    while block := list(islice(stream, _WRITTEN)):
        write_lines(block)
