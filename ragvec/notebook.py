"""How hits, indices and encoders show in a notebook: as HTML tables in which every value is text, never markup."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Protocol

LONGEST_CELL = 300  # characters


class Described(Protocol):
    """What can say what it is."""

    def describe(self) -> dict[str, Any]:
        """Names and JSON values."""


def described_html(thing: Described) -> str:
    """A description as a table, a row for each name."""
    rows = ((name.replace("_", " "), value) for name, value in thing.describe().items())
    return table_html((), rows)


def table_html(headings: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table of cells, cut to LONGEST_CELL; what stands for nothing is empty."""
    head = f"<thead><tr>{_cells(headings, 'th')}</tr></thead>" if headings else ""
    body = "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in rows)
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _cells(values: Iterable[Any], kind: str) -> str:
    return "".join(f'<{kind} style="text-align: left">{_cell(value)}</{kind}>' for value in values)


def _cell(value: Any) -> str:
    text = "; ".join(map(_plain, value)) if isinstance(value, list) else _plain(value)
    return escape(_cut("" if value is None else text))


def _plain(value: Any) -> str:
    return ", ".join(f"{name} {one}" for name, one in value.items()) if isinstance(value, dict) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"
