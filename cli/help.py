"""How a command's help reads: options under headings, examples, and the page that says more."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from ragvec.arguments import local_folder

PAGES = "docs/"  # where the pages lie in ragvec's repository

# headings of options that several commands share
CORPUS = "What is read"
ENCODER = "Encoder"
ENDPOINT = "Language model"
WHICH = "Which hits"
HOW = "How they are found"
SHOWN = "What is printed"
SERVER = "A running server"
STORED = "How vectors are stored"
SHARED = "Several processes"
SOURCES = "Sources of an index"
SEARCHED = "How the index is searched"
DATA = "Data and tasks"
COMPARED = "Comparisons"
WRITTEN = "What is written"
REACHED = "Who may reach it"

_TEXTS = ("query", "question", "doc_id")  # arguments that may hold spaces, at which a shell parts what is not in quotes


def command_class(examples: Sequence[str], page: str) -> type[TyperCommand]:
    """The class of a command with these examples, one a line, and this page of the documentation."""

    class Command(TyperCommand):
        allow_extra_args = True  # refused below, with what helps

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            given = self.make_parser(ctx).parse_args(list(args))[2] if not ctx.resilient_parsing else []
            if sum(one.name == "index" and not one.multiple for one in given) > 1:
                ctx.fail("--index is given twice, and this command takes one index: name one")  # the last alone would count
            rest = super().parse_args(ctx, args)
            for name, value in ctx.params.items():
                if isinstance(value, Path):
                    local_folder(name, value)
            if rest and not ctx.resilient_parsing:
                hint = f"({' '.join(rest)}){_in_quotes(ctx.params, rest)}"
                ctx.fail(f"Got unexpected extra argument(s) {''.join(filter(str.isprintable, hint))}")
            return rest

        def format_options(self, ctx: Any, formatter: Any) -> None:
            for heading, records in _by_heading(self.get_params(ctx), ctx).items():
                with formatter.section(heading):
                    formatter.write_dl(records)

        def format_epilog(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in examples))
            formatter.write(f"\nMore: {PAGES}{page}\n")

    return Command


def _in_quotes(given: Mapping[str, Any], rest: Sequence[str]) -> str:
    """How a text is one argument, where a command takes one; "" where it takes none."""
    text = next((given[name] for name in _TEXTS if given.get(name)), None)
    return "" if text is None else f": in quotes it is one, {shlex.quote(' '.join([text, *rest]))}"


def _by_heading(parameters: Sequence[Any], context: Any) -> dict[str, list[tuple[str, str]]]:
    """What the help says of each parameter, by heading: arguments, what stands under none, then the rest as it comes."""
    found: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in parameters:
        record = parameter.get_help_record(context)
        if record is not None:
            plain = "Arguments" if parameter.param_type_name == "argument" else "Options"
            found.setdefault(getattr(parameter, "rich_help_panel", None) or plain, []).append(record)
    return {heading: records for heading, records in found.items() if records}
