"""`ragvec delete`: documents out of an index."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ragvec.errors import RagvecError


def run(
    doc_ids: Annotated[
        list[str] | None, typer.Argument(help='Ids of documents; "-" reads them from stdin, one a line.')
    ] = None,
    index: Annotated[Path, typer.Option("--index", "-i", envvar="RAGVEC_INDEX", help="Index folder.")] = Path("ragvec-index"),
    where: Annotated[str | None, typer.Option(help="Filter: delete the documents of all passages that meet it.")] = None,
) -> None:
    from ragvec.index import Index

    if bool(doc_ids) == (where is not None):
        raise RagvecError("say what to delete: ids of documents, or --where with a filter, not both")
    with Index.open(index) as opened:
        if where is not None:
            print(f"{opened.delete_where(where):,} documents deleted, {len(opened):,} passages left")
            return
        names = [line.rstrip("\r\n") for line in sys.stdin] if doc_ids == ["-"] else doc_ids
        wanted = len({name for name in names if name})
        deleted = opened.delete([name for name in names if name])
        missing = f", {wanted - deleted:,} not found" if wanted > deleted else ""
        print(f"{deleted:,} documents deleted{missing}, {len(opened):,} passages left")
