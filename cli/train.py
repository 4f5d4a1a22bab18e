"""`ragvec train`: an objective and a JSON config in, a loadable folder out."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ragvec.cli.choices import Offline
from ragvec.errors import EXIT_INTERRUPTED


def run(
    objective: Annotated[str, typer.Argument(help="clm, mntp, simcse, supervised or distill.")],
    config: Annotated[
        Path, typer.Argument(help="JSON config, or a shipped recipe's name; the reference's files work as they are.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the config; may be repeated.")
    ] = None,
    offline: Offline = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in output_dir.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Load model and data, print the plan, train nothing.")] = False,
) -> None:
    """Train as the config says, and say where the result lies."""
    from ragvec.train.recipe import read_recipe

    is_main_process = os.environ.get("RANK", "0") == "0"  # one of several processes that torchrun started
    recipe, notes = read_recipe(objective, config, [*(overrides or ()), *(["offline=true"] if offline else [])])
    for note in notes if is_main_process else ():
        typer.echo(f"note: {note}", err=True)
    from ragvec.train import plan_run, train

    if dry_run:
        lines = plan_run(recipe).lines()
        for line in lines if is_main_process else ():
            typer.echo(line)
        return
    try:
        summary = train(recipe, resume=resume, report=typer.echo, show_progress=True)
    except KeyboardInterrupt:
        if is_main_process:
            typer.echo("interrupted: --resume goes on from the last checkpoint", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if is_main_process:
        typer.echo(
            f"{recipe.output_dir}: {summary['plan']['steps']:,} steps in {summary['seconds']:,} s, "
            f"{summary['tokens_per_second']:,} tokens/s, last loss {summary['last_loss']:.4f}"
        )
