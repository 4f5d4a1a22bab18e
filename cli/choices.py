"""Options that more than one command offers."""

from typing import Annotated, Any

import typer

EncoderSource = Annotated[
    str | None, typer.Option("--encoder", "-e", help="Folder, GGUF file or hub id; default: the bundled one.")
]
IndexEncoder = Annotated[str | None, typer.Option("--encoder", "-e", help="Default: the index's own.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
MaxLength = Annotated[int | None, typer.Option(min=1, help="Longest prompt in tokens.")]
QueryInstruction = Annotated[str | None, typer.Option(help='Query instruction; "" = none; default: the encoder\'s own.')]
PromptName = Annotated[
    str | None,
    typer.Option(help="Name of one of the encoder's prompts, instead of an instruction: query, document, clustering …"),
]
DocumentInstruction = Annotated[
    str | None, typer.Option(help='Put before every document; "" = nothing; default: the encoder\'s own, which most have not.')
]
TruncateDim = Annotated[int | None, typer.Option(min=1, help="Keep the first so many dimensions (Matryoshka).")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the best here.")]
AllDevices = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: all GPUs, or the best here.")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto (as stored).")]
Offline = Annotated[
    bool, typer.Option("--offline", help="Never ask the hub for a model, not even for one that an index or an adapter names.")
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
    from ragvec.errors import WrongInput

    if instruction is not None:
        raise WrongInput("an instruction and `prompt_name` say the same: give one of them")
    return named_prompt(source, name, revision=revision, offline=offline)
