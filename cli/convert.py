"""`ragvec convert`: decoder in, verified encoder out."""

from pathlib import Path
from typing import Annotated

import typer

from ragvec.cli.choices import MaxLength, Offline, Revision


def run(
    base: Annotated[str, typer.Argument(help="Decoder-only model: a folder or a hub id (or the reference's adapters).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new encoder.")],
    revision: Revision = None,
    pooling: Annotated[str | None, typer.Option(help="mean, weighted_mean, eos_token, last_token or bos_token.")] = None,
    max_length: MaxLength = None,
    instruction: Annotated[str | None, typer.Option(help="Query instruction to store in the encoder.")] = None,
    document_instruction: Annotated[
        str | None, typer.Option(help="What documents are read after, to store in the encoder.")
    ] = None,
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
        pooling=pooling,
        max_length=max_length,
        query_instruction=instruction,
        document_instruction=document_instruction,
        template_of=template_of,
        overwrite=overwrite,
        offline=offline,
    )
    batches = "packed" if result.packs else f"padded ({result.packing_refusal})"
    print(f"{output}: bidirectional (the last token moves the first state by {result.moved:.2f} of its size), "
          f"padding changes nothing ({result.padding_error:.0e}), batches are {batches}")  # fmt: skip
