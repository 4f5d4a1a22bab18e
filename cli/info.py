"""`ragvec info`: what a folder holds."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from ragvec.cli.output import Form, size_text, wants_json

_LONG_LISTS = ("parts", "previous")  # one entry a file: counted on a terminal, written out in JSON


PAGE = "evaluation.md"
EXAMPLES = (
    "ragvec info ragvec-index",
    "ragvec info organisation/name",
)


def run(
    path: Annotated[
        str,
        typer.Argument(
            help="Folder of an encoder, shards (or their URL) or an index; or the hub id of an encoder in the hub's cache."
        ),
    ],
    format: Annotated[Form | None, typer.Option(help="Default: lines on a terminal, JSON on a pipe.")] = None,
) -> None:
    """Describe what lies in a folder."""
    from ragvec.doctor.info import describe

    described = describe(path)
    if wants_json(format):
        print(json.dumps(described, ensure_ascii=False))
    else:
        print("\n".join(readable(described)))


def readable(described: dict[str, Any]) -> list[str]:
    """A description as aligned lines."""
    lines = list(_lines(described, ""))
    width = max(len(name) for name, _ in lines)
    return [f"{name:<{width}}  {value}" for name, value in lines]


def _lines(described: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in described.items():
        label = prefix + name.replace("_", " ")
        if isinstance(value, dict):
            yield from _lines(value, f"{label} ")
        elif isinstance(value, list) and (name in _LONG_LISTS or not value):
            yield label, f"{len(value):,}" if value else "none"
        elif isinstance(value, list):
            yield from ((label, _entry(one)) for one in value)
        elif name == "bytes":
            yield "size", size_text(value)
        else:
            yield label, _text(value)


def _entry(value: Any) -> str:
    return ", ".join(f"{name} {_text(one)}" for name, one in value.items()) if isinstance(value, dict) else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)
