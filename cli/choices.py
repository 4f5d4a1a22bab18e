"""Options that more than one command offers."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ragvec.cli.help import ENCODER


def _from_file(given: Any) -> Any:
    """An instruction, or of @FILE what the file holds, without the end of its last line; likewise of several."""
    if isinstance(given, list):
        return [_from_file(one) for one in given]
    if given is None or not given.startswith("@"):
        return given
    from ragvec.errors import NotFound, first_line
    from ragvec.files import read_described

    try:
        return read_described(Path(given[1:]).expanduser()).decode().removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        raise NotFound(f"no instruction can be read from {given[1:]:.200}: {first_line(error)}") from error


EncoderSource = Annotated[
    str | None,
    typer.Option("--encoder", "-e", help="Folder, GGUF file or hub id; default: the bundled one.", rich_help_panel=ENCODER),
]
IndexEncoder = Annotated[str | None, typer.Option("--encoder", "-e", help="Default: the index's own.", rich_help_panel=ENCODER)]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.", rich_help_panel=ENCODER)]
MaxLength = Annotated[int | None, typer.Option(min=1, help="Longest prompt in tokens.", rich_help_panel=ENCODER)]
QueryInstruction = Annotated[
    str | None,
    typer.Option(
        callback=_from_file,
        help='Query instruction, or @FILE with it; "" = none; default: the encoder\'s own.',
        rich_help_panel=ENCODER,
    ),
]
Instructions = Annotated[
    list[str] | None,
    typer.Option(
        "--instruction",
        callback=_from_file,
        help='Query instruction, or @FILE with it; "" = none; several are compared. Default: the encoder\'s own.',
        rich_help_panel=ENCODER,
    ),
]
StoredInstruction = Annotated[
    str | None, typer.Option(callback=_from_file, help="Query instruction to store in the encoder, or @FILE with it.")
]
StoredDocumentInstruction = Annotated[
    str | None,
    typer.Option(callback=_from_file, help="What documents are read after, to store in the encoder, or @FILE with it."),
]
PromptName = Annotated[
    str | None,
    typer.Option(
        help="Name of one of the encoder's prompts, instead of an instruction: query, document, clustering …",
        rich_help_panel=ENCODER,
    ),
]
DocumentInstruction = Annotated[
    str | None,
    typer.Option(
        callback=_from_file,
        help='Put before every document, or @FILE with it; "" = nothing; default: the encoder\'s own, which most have not.',
        rich_help_panel=ENCODER,
    ),
]
TruncateDim = Annotated[
    int | None, typer.Option(min=1, help="Keep the first so many dimensions (Matryoshka).", rich_help_panel=ENCODER)
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the best here.", rich_help_panel=ENCODER)]
AllDevices = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: all GPUs, or the best here.", rich_help_panel=ENCODER)
]
Dtype = Annotated[
    str | None,
    typer.Option(help="float32, bfloat16, float16, int8 (weights, CPU) or auto (as stored).", rich_help_panel=ENCODER),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        help="Never ask the hub for a model, not even for one that an index or an adapter names.",
        rich_help_panel=ENCODER,
    ),
]


def given(**options: Any) -> dict[str, Any]:
    """Those that were given, for what keeps a record of them."""
    return {name: value for name, value in options.items() if value is not None}


def prompted(
    instruction: str | None, name: str | None, source: str | None, *, revision: str | None = None, offline: bool = False
) -> str | None:
    """The instruction that was given, or the encoder's prompt of that name. Raises WrongInput for both."""
    if name is None:
        return instruction
    from ragvec.encoder.sources import named_prompt
    from ragvec.errors import WrongUsage

    if instruction is not None:
        raise WrongUsage("an instruction and `prompt_name` say the same: give one of them")
    return named_prompt(source, name, revision=revision, offline=offline)
