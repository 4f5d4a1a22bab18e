"""`ragvec export`: an encoder in another library's layout, checked there; shards in a store."""

from pathlib import Path
from typing import Annotated

import typer

from ragvec.cli.choices import Offline
from ragvec.errors import WrongInput
from ragvec.stores.address import HANDED, LIKE

PAGE = "training.md"
EXAMPLES = ("ragvec export my-encoder --to sentence-transformers -o for-others",)


def run(
    encoder: Annotated[str, typer.Argument(help="What --encoder takes: a folder, a hub id, adapters.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="sentence-transformers, llm2vec, hf (transformers); ragvec: without a base; "
            "pgvector, milvus, lancedb, qdrant: shards into a database.",
        ),
    ],
    store: Annotated[
        str | None,
        typer.Argument(
            help="For databases: postgresql://user@host:5432/database/table, milvus://host:19530/collection, "
            "folder/table (lancedb), http://host:6333/collection (qdrant); ENCODER is a folder of shards."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder to write, new or empty.")] = None,
    python: Annotated[
        str | None, typer.Option(help="Interpreter that has the library, to check the result; this one if left out.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="For databases: documents that are there and not in the shards stay.")
    ] = False,
    offline: Offline = False,
) -> None:
    """Export an encoder, compare its vectors with those of the other library, and say how near they are; or load shards."""
    if to in LIKE or to in HANDED:
        _load(encoder, to, store, keep=keep)
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


def _load(shards: str, to: str, store: str | None, *, keep: bool) -> None:
    from ragvec.stores import export_shards

    if store is None:
        raise WrongInput(f"{to} is loaded by an address: name it after the shards, like {(LIKE | HANDED)[to]}")
    loaded = export_shards(shards, to, store, keep=keep)
    left_out = f", {loaded.failed:,} that could not be encoded left out" if loaded.failed else ""
    typer.echo(f"{loaded.name}: {loaded.passages:,} passages loaded{left_out}")
