"""`ragvec export`: an encoder in another library's layout, checked there."""

from pathlib import Path
from typing import Annotated

import typer

from ragvec.cli.choices import Offline

PAGE = "training.md"
EXAMPLES = ("ragvec export my-encoder --to sentence-transformers -o for-others",)


def run(
    encoder: Annotated[str, typer.Argument(help="What --encoder takes: a folder, a hub id, adapters.")],
    to: Annotated[
        str,
        typer.Option("--to", help="sentence-transformers, llm2vec, hf (transformers); ragvec: without a base."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write, new or empty.")],
    python: Annotated[
        str | None, typer.Option(help="Interpreter that has the library, to check the result; this one if left out.")
    ] = None,
    offline: Offline = False,
) -> None:
    """Export an encoder, compare its vectors with those of the other library, and say how near they are."""
    from ragvec.export import export

    done = export(encoder, to, output, python=python, offline=offline)
    if done.check.deviation is None:
        typer.echo(f"{output}: written for {to}, not checked: {done.check.where} (--python names one that has it)")
    else:
        typer.echo(f"{output}: read back with {to}, vectors differ by at most {done.check.deviation:.0e}")
    for note in done.notes:
        typer.echo(f"note: {note}")
