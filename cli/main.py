"""`ragvec`: choose the command, import it alone, and turn errors into one line and an exit code."""

import atexit
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial, wraps
from importlib import import_module
from io import TextIOWrapper
from types import ModuleType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from ragvec import __version__
from ragvec.cli.arguments import Parameter, as_options
from ragvec.cli.help import command_class
from ragvec.errors import EXIT_FAILED, EXIT_INTERRUPTED, RagvecError, WrongRow, without_controls

COMMANDS = {
    "convert": "Turn a decoder into a bidirectional text encoder, verified.",
    "train": "Fine-tune an encoder as a JSON recipe says.",
    "export": "Write an encoder for other libraries, compared there.",
    "push": "Publish an encoder on the Hugging Face hub, with a model card.",
    "mine": "Find hard negatives for training pairs.",
    "encode": "Encode a corpus into Parquet shards.",
    "index": "Build or update an index from a corpus or from shards.",
    "search": "Search an index.",
    "similar": "Find the documents most like one of an index.",
    "ask": "Answer a question from an index, with the sources.",
    "documents": "List, look up, count and write out the documents of an index.",
    "delete": "Delete documents from an index.",
    "compact": "Merge an index's segments, and give back space.",
    "serve": "Serve embeddings and search over HTTP, with a search page.",
    "mcp": "Let assistants search an index (Model Context Protocol).",
    "eval": "Evaluate an encoder on a retrieval or similarity data set.",
    "generate": "Have a language model write questions to evaluate with.",
    "plan": "Predict what a corpus will take: time, memory, disk.",
    "map": "Lay an index out as a map, topics named, for the page.",
    "info": "Describe an encoder, shards or an index.",
    "doctor": "Examine an encoder, shards or an index, and the machine.",
}

WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}  # threads without work sleep: spinning, they take other work's place


def build_app(chosen: str | None) -> typer.Typer:
    """The application with every command listed and only the chosen one's file imported."""
    app = typer.Typer(
        name="ragvec",
        help="Vector search and RAG on LLM2Vec embeddings.",
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_top_level)
    for name, summary in COMMANDS.items():
        if name == chosen:
            module = import_module(f"ragvec.cli.{name}")
            shown = command_class(module.EXAMPLES, module.PAGE)
            app.command(name, help=summary, epilog=module.PAGE, cls=shown)(_interruptible(module))
        else:
            app.command(name, help=summary)(_not_chosen)
    return app


class _Interrupted(Exception):
    """Ctrl-C in a command. typer ends in silence on KeyboardInterrupt, some versions with another code."""


def _interruptible(module: ModuleType) -> Callable[..., None]:
    """A command's function, which says on Ctrl-C how the work goes on, where its file knows (`goes_on`)."""

    @wraps(module.run)
    def interruptible(**arguments: Any) -> None:
        try:
            module.run(**arguments)
        except KeyboardInterrupt as error:
            goes_on = getattr(module, "goes_on", None)
            raise _Interrupted(f": {goes_on(**arguments)}" if goes_on else "") from error

    return interruptible


def main(argv: Sequence[str] | None = None) -> None:
    """The console script's entry: runs the command and exits with its code. A command finds the words in its context's obj."""
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), None) or _to_complete()
    _open_missing_streams()
    for name, value in WAITING.items():  # read as torch is imported, so not later
        os.environ.setdefault(name, value)
    code = _run(words, chosen)
    if code == EXIT_INTERRUPTED and argv is None:
        _leave(code)
    sys.exit(code)


def _open_missing_streams() -> None:
    """What is closed (`>&-`) or was never there (pythonw) is empty, or is written to nowhere. In their order: each takes the
    lowest number that is free, and so no other file takes theirs."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (as long as the process lives)


def _leave(code: int) -> NoReturn:
    """End this process at once, tidied up: a library's own threads, stopped in mid-work, abort it as the interpreter ends."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _to_complete() -> str | None:
    """The command whose options a shell asks for: it calls with the line typed so far in the environment."""
    typed = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    asks = "_RAGVEC_COMPLETE" in os.environ
    return next((word for word in typed.split() if word in COMMANDS), None) if asks else None


class _Warnings(logging.Handler):
    """Prints the library's warnings, with the options that a command calls its arguments by."""

    def __init__(self, parameters: Callable[[], Sequence[Parameter]]) -> None:
        super().__init__(logging.WARNING)
        self._parameters = parameters

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        print(without_controls(as_options(record.getMessage(), self._parameters())), file=sys.stderr)


def _run(words: list[str], chosen: str | None) -> int:
    """A command's exit code, when all that it printed has been written."""
    try:
        code = _code(words, chosen)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` closed the pipe: nothing more to say
        _print_nowhere()
        return EXIT_FAILED
    except OSError as error:  # a full disk, most likely: what fails elsewhere, the library has named as a RagvecError
        _print_nowhere()
        what = error.filename or "what is printed can't be written"
        print(f"error: {what}: {error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    return code


def _print_nowhere() -> None:
    """What is left to print would fail once more as the interpreter ends."""
    with suppress(OSError, ValueError):  # no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _code(words: list[str], chosen: str | None) -> int:
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
        known = _parameters(app, chosen)
        can_skip = isinstance(error, WrongRow) and any(parameter.name == "on_error" for parameter in known)
        remedy = ": mend it, or leave such rows out (`on_error` skip)" if can_skip else ""
        print(without_controls(f"error: {as_options(f'{error}{remedy}', known)}"), file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, _Interrupted) as error:
        print(f"interrupted{error}", file=sys.stderr)
        return EXIT_INTERRUPTED
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
