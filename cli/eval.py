"""`ragvec eval`: an encoder's figures on a retrieval or similarity data set."""

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Format(str, Enum):
    """How results are printed."""

    table = "table"
    json = "json"


def run(
    dataset: Annotated[Path, typer.Argument(help="BEIR folder (corpus.jsonl, queries.jsonl, qrels/) or STS table (.tsv).")],
    encoder: Annotated[str | None, typer.Option("--encoder", "-e", help="Folder or hub id; default: the bundled one.")] = None,
    split: Annotated[str, typer.Option(help="Which qrels of a BEIR folder to use.")] = "test",
    instruction: Annotated[str | None, typer.Option(help='Query instruction; "" = none; default: the encoder\'s own.')] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the best here.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto (as stored).")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Longest prompt in tokens.")] = None,
    format: Annotated[Format | None, typer.Option(help="Default: a table on a terminal, JSON on a pipe.")] = None,
) -> None:
    from ragvec.encoder import Encoder
    from ragvec.evaluate import evaluate

    loaded = Encoder.load(encoder, revision=revision, device=device, dtype=dtype, max_length=max_length)
    evaluation = evaluate(dataset, loaded, split=split, instruction=instruction, show_progress=True)
    chosen = format or (Format.table if sys.stdout.isatty() else Format.json)
    print(_table(evaluation) if chosen is Format.table else _json(evaluation))


def _json(evaluation) -> str:
    import json

    return json.dumps(evaluation.as_record(), ensure_ascii=False)


def _table(evaluation) -> str:
    """Two columns: what was measured on what, then the figures with four digits."""
    numbers = {name: f"{value:,}" for name, value in evaluation.counts.items()}
    figures = {name: f"{value:.4f}" for name, value in evaluation.figures.items()}
    split = {"split": evaluation.split} if evaluation.split else {}
    rows = {"dataset": evaluation.dataset, **split, "encoder": evaluation.encoder, **numbers, **figures}
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())
