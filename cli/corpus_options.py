"""The options that say how a corpus is read and cut, the same in every command that reads one."""

from enum import Enum
from typing import Annotated

import typer


class OnErrorChoice(str, Enum):
    """What to do with a row that can't be read."""

    stop = "stop"
    skip = "skip"


PassageTokens = Annotated[
    int | None, typer.Option(min=1, help="Cut documents into passages of at most so many tokens; default: one passage each.")
]
Overlap = Annotated[int, typer.Option(min=0, help="Tokens that a passage repeats from the one before, in whole sentences.")]
TextFields = Annotated[str | None, typer.Option(help="Fields that make the text, with commas between: abstract,body.")]
IdField = Annotated[str | None, typer.Option(help="Field that holds the id.")]
TextLines = Annotated[bool, typer.Option("--text-lines", help="Each line of a .txt file is a document.")]
OnError = Annotated[OnErrorChoice, typer.Option(help="What to do with rows that can't be read: stop, or skip and keep them.")]


def field_names(text_fields: str | None) -> tuple[str, ...]:
    """The names in a list with commas."""
    return tuple(name.strip() for name in (text_fields or "").split(",") if name.strip())
