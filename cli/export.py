"""`ragvec export`: an encoder in another library's layout, checked there; shards in a store."""

from pathlib import Path
from typing import Annotated

import typer

from ragvec.cli.choices import Offline
from ragvec.errors import WrongInput

PAGE = "training.md"
EXAMPLES = ("ragvec export my-encoder --to sentence-transformers -o for-others",)


def run(
    encoder: Annotated[str, typer.Argument(help="What --encoder takes: a folder, a hub id, adapters.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="sentence-transformers, llm2vec, hf (transformers); ragvec: without a base; pgvector: shards into a table.",
        ),
    ],
    store: Annotated[
        str | None,
        typer.Argument(help="For pgvector: postgresql://user@host:5432/database/table; ENCODER is a folder of shards."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write, new or empty.")] = None,
    python: Annotated[
        str | None, typer.Option(help="Interpreter that has the library, to check the result; this one if left out.")
    ] = None,
    offline: Offline = False,
) -> None:
    """Export an encoder, compare its vectors with those of the other library, and say how near they are."""
    if to == "pgvector":
        _load(encoder, store)
        return
    if store is not None or output is None:
        raise WrongInput(f"{to} is written into a folder: name it by `output`, and nothing else")
    from ragvec.export import export

    done = export(encoder, to, output, python=python, offline=offline)
    if done.check.deviation is None:
        typer.echo(f"{output}: written for {to}, not checked: {done.check.where} (--python names one that has it)")
    else:
        typer.echo(f"{output}: read back with {to}, vectors differ by at most {done.check.deviation:.0e}")
    for note in done.notes:
        typer.echo(f"note: {note}")


def _load(shards: str, store: str | None) -> None:
    from ragvec.stores import load_shards, open_store

    if store is None:
        raise WrongInput("pgvector is loaded into a table: name it, postgresql://user@host:5432/database/table")
    loaded = load_shards(shards, open_store(store))
    left_out = f", {loaded.failed:,} that could not be encoded left out" if loaded.failed else ""
    typer.echo(f"{loaded.name}: {loaded.passages:,} passages loaded{left_out}")
