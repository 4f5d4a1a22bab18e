"""`ragvec convert`: decoder in, verified encoder out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragvec.cli.choices import MaxLength, Offline, Revision, StoredDocumentInstruction, StoredInstruction

if TYPE_CHECKING:
    from ragvec.encoder.probe import Probe


PAGE = "training.md"
EXAMPLES = (
    "ragvec convert Qwen/Qwen3-0.6B -o my-encoder",
    "ragvec convert model.gguf -o my-encoder --pooling last_token",
)


def run(
    base: Annotated[
        str, typer.Argument(help="Decoder-only model: a folder, a GGUF file or a hub id (or the reference's adapters).")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new encoder.")],
    revision: Revision = None,
    adapter: Annotated[
        list[str] | None, typer.Option(help="LoRA adapter to merge: a folder, a hub id, a name that ships; may be repeated.")
    ] = None,
    pooling: Annotated[str | None, typer.Option(help="mean, weighted_mean, eos_token, last_token or bos_token.")] = None,
    max_length: MaxLength = None,
    instruction: StoredInstruction = None,
    document_instruction: StoredDocumentInstruction = None,
    template_of: Annotated[str | None, typer.Option(help="Use the chat template of this published base model.")] = None,
    offline: Offline = False,
    overwrite: Annotated[bool, typer.Option(help="Replace what the output folder holds.")] = False,
) -> None:
    """Convert a decoder, verify it, and say where the encoder lies."""
    from ragvec.encoder import convert

    result = convert(
        base,
        output,
        revision=revision,
        adapters=adapter or (),
        pooling=pooling,
        max_length=max_length,
        query_instruction=instruction,
        document_instruction=document_instruction,
        template_of=template_of,
        overwrite=overwrite,
        offline=offline,
    )
    print(
        f"{output}: bidirectional (the last token moves an earlier state by {result.moved:.0e} of its size), {_batches(result)}"
    )


def _batches(result: "Probe") -> str:
    if result.packs:
        return f"batches are packed (which changes nothing: {result.packing_error:.0e})"
    error = result.padding_error
    effect = "changes nothing" if error <= result.tolerance else "moves states, so encode with --dtype float32"
    return f"batches are padded ({result.packing_refusal}), which {effect} ({error:.0e})"
