"""`ragvec`: choose the command, import it alone, and turn errors into one line and an exit code."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial, wraps
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperGroup

from ragvec import __version__
from ragvec.cli.arguments import Parameter, as_options
from ragvec.errors import EXIT_FAILED, EXIT_INTERRUPTED, RagvecError

COMMANDS = {
    "convert": "Turn a decoder-only model into a bidirectional text encoder, verified.",
    "train": "Fine-tune an encoder: mntp, simcse, supervised, from a JSON config.",
    "export": "Write an encoder for sentence-transformers, the reference or transformers, checked there.",
    "push": "Publish an encoder on the Hugging Face hub, with a model card.",
    "mine": "Find hard negatives for training pairs.",
    "encode": "Encode a corpus into Parquet shards.",
    "index": "Build or update an index from a corpus or from shards.",
    "search": "Search an index.",
    "ask": "Answer a question from an index by a language model, with the sources.",
    "documents": "List, look up, count and write out the documents of an index.",
    "delete": "Delete documents from an index.",
    "compact": "Merge an index's segments and give back the space of deleted documents.",
    "serve": "Serve embeddings and search over HTTP, with a search page.",
    "mcp": "Let assistants search an index, over the Model Context Protocol.",
    "eval": "Evaluate an encoder on a retrieval or similarity data set.",
    "generate": "Have a language model write questions to an index's passages, to evaluate with.",
    "plan": "Predict what encoding and indexing a corpus will take: time, memory, disk.",
    "map": "Lay an index out as points on a plane, topics named, for the search page.",
    "info": "Describe an encoder, shards or an index.",
    "doctor": "Examine an encoder, shards or an index, and the machine.",
}


def build_app(chosen: str | None) -> typer.Typer:
    """The application with every command listed and only the chosen one's file imported."""
    app = typer.Typer(
        name="ragvec",
        help="Vector search and RAG on LLM2Vec embeddings.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        add_completion=False,
    )
    app.callback()(_top_level)
    for name, summary in COMMANDS.items():
        function = _interruptible(import_module(f"ragvec.cli.{name}").run) if name == chosen else _not_chosen
        app.command(name, help=summary)(function)
    return app


class _Interrupted(Exception):
    """Ctrl-C in a command. typer ends in silence on KeyboardInterrupt, some versions with another code."""


def _interruptible(run: Callable[..., None]) -> Callable[..., None]:
    @wraps(run)
    def interruptible(**arguments: Any) -> None:
        try:
            run(**arguments)
        except KeyboardInterrupt as error:
            raise _Interrupted from error

    return interruptible


def main(argv: Sequence[str] | None = None) -> None:
    """The console script's entry: runs the command and exits with its code. A command finds the words in its context's obj."""
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), None)
    sys.exit(_run(words, chosen))


class _Warnings(logging.Handler):
    """Prints the library's warnings, with the options that a command calls its arguments by."""

    def __init__(self, parameters: Callable[[], Sequence[Parameter]]) -> None:
        super().__init__(logging.WARNING)
        self._parameters = parameters

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        print(as_options(record.getMessage(), self._parameters()), file=sys.stderr)


def _run(words: list[str], chosen: str | None) -> int:
    if isinstance(sys.stdout, TextIOWrapper):  # a path may hold bytes, and a locale lack characters: as stderr shows them
        sys.stdout.reconfigure(errors="backslashreplace")
    app: typer.Typer | None = None
    try:
        app = build_app(chosen)
        if not (log := logging.getLogger("ragvec")).hasHandlers():
            parameters = partial(_parameters, app, chosen)
            log.addHandler(_Warnings(parameters))
        app(args=words, prog_name="ragvec", standalone_mode=True, obj=words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_FAILED
    except RagvecError as error:
        print(f"error: {as_options(str(error), _parameters(app, chosen))}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, _Interrupted):
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` closed the pipe: nothing more to say
        return EXIT_FAILED
    return 0


def _parameters(app: typer.Typer | None, chosen: str | None) -> Sequence[Parameter]:
    """What a command takes; nothing where none was chosen, or its own file could not be imported (app is None then)."""
    if app is None:
        return []
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)  # there are many commands
    command = group.commands.get(chosen or "")
    return [] if command is None else command.params


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ragvec {__version__}")
        raise typer.Exit


def _top_level(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass


def _not_chosen() -> None:
    """Stands for a command whose file is not imported because another was called."""
