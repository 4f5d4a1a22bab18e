"""`ragvec train`: an objective and a JSON config in, a loadable folder out."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ragvec.cli.choices import Offline
from ragvec.cli.corpus_options import OnErrorChoice
from ragvec.errors import EXIT_INTERRUPTED

PAGE = "training.md"
EXAMPLES = (
    "ragvec train mntp MetaLlama3.json --dry-run",
    "ragvec train simcse recipe.json --set learning_rate=1e-5",
    "ragvec train mntp recipe.json --resume",
)


def run(
    objective: Annotated[str, typer.Argument(help="clm, mntp, simcse, supervised or distill.")],
    config: Annotated[
        Path, typer.Argument(help="JSON config, or a shipped recipe's name; the reference's files work as they are.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the config; may be repeated.")
    ] = None,
    on_error: Annotated[
        OnErrorChoice, typer.Option(help="What to do with rows that can't be read: stop, or skip and count them.")
    ] = OnErrorChoice.stop,
    offline: Offline = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in output_dir.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Load model and data, print the plan, train nothing.")] = False,
) -> None:
    """Train as the config says, and say where the result lies."""
    from ragvec.train.recipe import read_recipe

    is_main_process = os.environ.get("RANK", "0") == "0"  # one of several processes that torchrun started
    told = [*(["offline=true"] if offline else []), *(["on_error=skip"] if on_error is OnErrorChoice.skip else [])]
    recipe, notes = read_recipe(objective, config, [*(overrides or ()), *told])
    for note in notes if is_main_process else ():
        typer.echo(f"note: {note}", err=True)
    from ragvec.train import plan_run, train

    if dry_run:
        lines = plan_run(recipe, report=_on_stderr if is_main_process else None).lines()
        for line in lines if is_main_process else ():
            typer.echo(line)
        return
    try:
        summary = train(recipe, resume=resume, report=typer.echo, show_progress=True)
    except KeyboardInterrupt:
        if is_main_process:
            how = "the same command goes on" if resume else "the same command with --resume goes on"
            typer.echo(f"interrupted: {how} from the last checkpoint", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if is_main_process:
        typer.echo(
            f"{recipe.output_dir}: {summary['plan']['steps']:,} steps in {summary['seconds']:,} s, "
            f"{summary['tokens_per_second']:,} tokens/s, last loss {summary['last_loss']:.4f}"
        )


def _on_stderr(line: str) -> None:
    typer.echo(line, err=True)
