"""How an index is searched, as options of `ragvec index` and `ragvec compact`."""

import re
from typing import Annotated, Any

import typer

from ragvec.cli.help import SEARCHED

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_size(text: str) -> int:
    """Bytes from a text such as 800MB, 2G or 1.5GiB."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", text.lower())
    if match is None or match.group(2) not in _UNITS:
        raise typer.BadParameter(f"{text!r} is no size: write it like 800MB or 2GiB")
    return int(float(match.group(1)) * _UNITS[match.group(2)])


IndexKey = Annotated[
    str | None,
    typer.Option(
        help='How segments are searched: "auto" (default, by their size), "exact", or a FAISS factory string.',
        rich_help_panel=SEARCHED,
    ),
]
Recall = Annotated[
    float | None,
    typer.Option(help="Recall@10 that approximate search is tuned to reach; default 0.95.", rich_help_panel=SEARCHED),
]
MaxMemory = Annotated[
    int | None,
    typer.Option(
        parser=parse_size,
        metavar="SIZE",
        help="Most memory for a segment's index, with auto, e.g. 2GB.",
        rich_help_panel=SEARCHED,
    ),
]
FilterFields = Annotated[
    str | None,
    typer.Option(
        help='Metadata fields that filters ask for most, with commas between: year,lang. "" = none.', rich_help_panel=SEARCHED
    ),
]
Language = Annotated[
    str | None,
    typer.Option(
        help="What words are stemmed by, such as german, korean or none; default: what the first documents are in.",
        rich_help_panel=SEARCHED,
    ),
]


def search_settings(
    index_key: str | None,
    recall: float | None,
    max_memory: int | None,
    *,
    filter_fields: str | None = None,
    language: str | None = None,
) -> dict[str, Any]:
    """Those that were given, under the library's names."""
    fields = None if filter_fields is None else tuple(name for name in map(str.strip, filter_fields.split(",")) if name)
    given = {
        "faiss_key": index_key,
        "recall_target": recall,
        "max_memory": max_memory,
        "filter_fields": fields,
        "language": language,
    }
    return {name: value for name, value in given.items() if value is not None}
