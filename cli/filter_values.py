"""The values of a filter's names, as an option."""

import json
from typing import Annotated

import typer

from ragvec.cli.help import WHICH
from ragvec.records import FilterValues


def parse_values(text: str) -> FilterValues:
    """Values by name from a JSON object."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise typer.BadParameter(f'{text:.60} is no JSON object: write it like {{"groups": ["a", "b"]}}')
    return values


WhereValues = Annotated[
    FilterValues | None,
    typer.Option(
        parser=parse_values,
        metavar="JSON",
        help='What each $name in the filter stands for: \'{"groups": ["a", "b"]}\'.',
        rich_help_panel=WHICH,
    ),
]
