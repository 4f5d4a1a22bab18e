"""`ragvec compact`: one segment again, and the space of what was deleted given back."""

from pathlib import Path
from typing import Annotated

import typer

from ragvec.cli.output import size_text
from ragvec.cli.search_settings import FilterFields, IndexKey, Language, MaxMemory, Recall, search_settings

PAGE = "retrieval.md"
EXAMPLES = (
    "ragvec compact",
    "ragvec compact -i my-index --index-key exact",
)


def run(
    index: Annotated[Path, typer.Option("--index", "-i", envvar="RAGVEC_INDEX", help="Index folder.")] = Path("ragvec-index"),
    index_key: IndexKey = None,
    recall: Recall = None,
    max_memory: MaxMemory = None,
    filter_fields: FilterFields = None,
    language: Language = None,
) -> None:
    """Merge the segments, and say what is left on disk."""
    from ragvec.index import Index

    with Index.open(index) as opened:
        before = opened.describe()
        opened.compact(**search_settings(index_key, recall, max_memory, filter_fields=filter_fields, language=language))
        after = opened.describe()
    print(
        f"{index}: segments {len(before['segments'])} → {len(after['segments'])}, "
        f"{before['deleted_rows']:,} deleted rows dropped, {size_text(before['bytes'])} → {size_text(after['bytes'])}"
    )
