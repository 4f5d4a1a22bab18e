"""`ragvec mine`: pairs in, the same pairs with hard negatives out."""

from pathlib import Path
from typing import Annotated

import typer

from ragvec.cli.choices import Device, Offline, PromptName, QueryInstruction, prompted

PAGE = "training.md"
EXAMPLES = (
    "ragvec mine pairs.jsonl -o mined.jsonl",
    "ragvec mine pairs.jsonl -o mined.jsonl --index ragvec-index --negatives 3",
)


def run(
    pairs: Annotated[list[str], typer.Argument(help="Files or folders of pairs, as `ragvec train supervised` reads them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSONL file to write.")],
    index: Annotated[
        Path | None, typer.Option("--index", "-i", help="Look for candidates here; default: among the texts of the pairs.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", "-e", help="Folder or hub id; default: the index's own, or the bundled one.")
    ] = None,
    negatives: Annotated[int, typer.Option(help="Hard negatives of each pair, at most.")] = 7,
    depth: Annotated[int, typer.Option(help="Candidates looked at for each query.")] = 100,
    margin: Annotated[
        float, typer.Option(help="Candidates scoring above (1 - margin) x the positive are taken for answers and left out.")
    ] = 0.05,
    instruction: QueryInstruction = None,
    prompt_name: PromptName = None,
    device: Device = None,
    offline: Offline = False,
) -> None:
    """Mine hard negatives, and sum up how many were found."""
    from ragvec.train.mine import mine

    loaded = None
    if encoder is not None or index is None:
        from ragvec.encoder import Encoder

        loaded = Encoder.load(encoder, device=device, offline=offline)
        instruction = prompted(instruction, prompt_name, encoder, offline=offline)
    mined = mine(
        pairs,
        output,
        index=index,
        encoder=loaded,
        negatives=negatives,
        depth=depth,
        margin=margin,
        instruction=instruction,
        offline=offline,
        show_progress=True,
    )
    print(
        f"{output}: {mined.rows:,} pairs, {mined.negatives / mined.rows:.1f} negatives each; "
        f"{mined.likely_answers:,} candidates passed over as likely answers, {mined.without:,} pairs without a negative"
    )
