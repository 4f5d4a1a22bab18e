"""`ragvec similar`: the documents most like one of an index; nothing is encoded, its vector lies there."""

from pathlib import Path
from typing import Annotated

import typer

from ragvec.cli.filter_values import WhereValues
from ragvec.cli.output import Form, Format, default_format, print_hits
from ragvec.cli.search import Hits, IndexFolder, Where
from ragvec.retrieve import DEFAULTS

PAGE = "retrieval.md"
EXAMPLES = (
    "ragvec similar photosynthesis -k 3",
    "ragvec similar ko-celadon --where 'lang = \"ko\"'",
)


def run(
    doc_id: Annotated[str, typer.Argument(help="The document's id, as hits name it.")],
    index: IndexFolder = Path("ragvec-index"),
    passage_id: Annotated[
        str | None, typer.Option("--passage", metavar="ID", help="What is like this passage of it; default: like all of it.")
    ] = None,
    k: Hits = DEFAULTS["k"],
    where: Where = DEFAULTS["where"],
    where_values: WhereValues = DEFAULTS["where_values"],
    format: Annotated[Form | None, typer.Option(help="Default: a table on a terminal, NDJSON on a pipe.")] = None,
) -> None:
    """Print the documents nearest to one of the index, each by its best passage."""
    from ragvec.index import Index
    from ragvec.retrieve.similar import similar_documents

    with Index.open(index) as opened:
        hits = similar_documents(opened, doc_id, passage_id=passage_id, k=k, where=where, where_values=where_values)
    print_hits([("1", "", hits)], Format(format.value) if format else default_format(), single=True)
