"""Choices that more than one command offers."""

from typing import Annotated

import typer

Offline = Annotated[
    bool, typer.Option("--offline", help="Never ask the hub for a model, not even for one that an index or an adapter names.")
]
