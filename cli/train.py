"""`ragvec train`: an objective and a JSON config in, a loadable folder out."""

from pathlib import Path
from typing import Annotated

import typer


def run(
    objective: Annotated[str, typer.Argument(help="clm, mntp, simcse, supervised or distill.")],
    config: Annotated[Path, typer.Argument(help="JSON config; the reference's files work as they are.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the config; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the newest checkpoint in output_dir.")] = False,
) -> None:
    from ragvec.recipe import read_recipe

    recipe, notes = read_recipe(objective, config, overrides or ())
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    from ragvec.train import train

    summary = train(objective, recipe, resume=resume, report=typer.echo, show_progress=True)
    typer.echo(
        f"{recipe.output_dir}: {summary['plan']['steps']:,} steps in {summary['seconds']:,} s, "
        f"{summary['tokens_per_second']:,} tokens/s, last loss {summary['last_loss']}"
    )
