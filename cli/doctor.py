"""`ragvec doctor`: examine an encoder, shards or an index, and the machine."""

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from ragvec.cli.arguments import as_options
from ragvec.cli.choices import Device, Dtype, Offline
from ragvec.errors import EXIT_FAILED

if TYPE_CHECKING:
    from ragvec.doctor.check import Check


PAGE = "evaluation.md"
EXAMPLES = (
    "ragvec doctor",
    "ragvec doctor ragvec-index",
)


def run(
    context: typer.Context,
    path: Annotated[
        str | None, typer.Argument(help="Encoder (folder or hub id), shards, or an index; default: the bundled encoder.")
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Examine, print what was found, and end with an exit code that says whether all is well."""
    from ragvec.doctor import FAILED, examine

    parameters = context.command.params
    checks = (
        check._replace(remedy=as_options(check.remedy, parameters))
        for check in examine(path, device=device, dtype=dtype, offline=offline)
    )
    failed = [check for check in _shown(checks, as_json) if check.state == FAILED]
    if failed:
        raise typer.Exit(EXIT_FAILED)


def _shown(checks: "Iterable[Check]", as_json: bool) -> "Iterator[Check]":
    """Print each check as it is done, and pass it on."""
    for check in checks:
        if as_json:
            print(json.dumps(check._asdict(), ensure_ascii=False), flush=True)
        else:
            remedy = f": {check.remedy}" if check.remedy else ""
            print(f"{check.state:<6}  {check.area:<7}  {check.name:<14}  {check.found}{remedy}", flush=True)
        yield check
