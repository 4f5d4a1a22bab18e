"""`ragvec delete`: documents out of an index."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ragvec.cli.filter_values import WhereValues
from ragvec.errors import WrongUsage

_SHOWN = 5


PAGE = "retrieval.md"
EXAMPLES = (
    "ragvec delete 42 43",
    "ragvec delete --where 'year < 2000' --dry-run",
)


def run(
    doc_ids: Annotated[
        list[str] | None, typer.Argument(help='Ids of documents; "-" reads them from stdin, one a line.')
    ] = None,
    index: Annotated[Path, typer.Option("--index", "-i", envvar="RAGVEC_INDEX", help="Index folder.")] = Path("ragvec-index"),
    where: Annotated[str | None, typer.Option(help="Filter: delete the documents of all passages that meet it.")] = None,
    where_values: WhereValues = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which documents would be deleted, and delete none.")] = False,
) -> None:
    """Remove documents by id or filter, once the user has agreed."""
    from ragvec.index import Index

    if bool(doc_ids) == (where is not None):
        raise WrongUsage("say what to delete: ids of documents, or --where with a filter, not both")
    if where_values is not None and where is None:
        raise WrongUsage("values are given for a filter, and no filter: give --where too")
    names = [line.rstrip("\r\n") for line in sys.stdin] if doc_ids == ["-"] else doc_ids or []
    names = [name for name in dict.fromkeys(names) if name]
    with Index.open(index) as opened:
        if dry_run:
            print(
                _foretold(opened.documents_where(where, where_values) if where is not None else opened.documents_named(names))
            )
        elif where is not None:
            print(f"{opened.delete_where(where, where_values):,} documents deleted, {len(opened):,} passages left")
        else:
            deleted = opened.delete(names)
            missing = f", {len(names) - deleted:,} not found" if len(names) > deleted else ""
            print(f"{deleted:,} documents deleted{missing}, {len(opened):,} passages left")


def _foretold(doc_ids: Sequence[str]) -> str:
    shown = ", ".join(doc_ids[:_SHOWN]) + (f" and {len(doc_ids) - _SHOWN:,} more" if len(doc_ids) > _SHOWN else "")
    return f"{len(doc_ids):,} documents would be deleted{f': {shown}' if shown else ''}"
