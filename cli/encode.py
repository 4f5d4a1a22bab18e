"""`ragvec encode`: a corpus in, Parquet shards out."""

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ragvec.cli.output import report_skipped


class VectorDtype(str, Enum):
    """How vectors are stored."""

    float16 = "float16"
    float32 = "float32"


class Format(str, Enum):
    """How the summary is printed."""

    table = "table"
    json = "json"


def run(
    corpus: Annotated[
        str, typer.Argument(help='File or folder (JSONL, JSON, Parquet, CSV, text, Markdown, BEIR); "-" = stdin.')
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the shards.")],
    encoder: Annotated[str | None, typer.Option("--encoder", "-e", help="Folder or hub id; default: the bundled one.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    instruction: Annotated[str, typer.Option(help="Put before every passage; documents normally carry none.")] = "",
    max_length: Annotated[
        int | None, typer.Option(min=1, help="Longest prompt in tokens; what is longer is cut and counted.")
    ] = None,
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens in one batch.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the best here.")] = None,
    dtype: Annotated[str | None, typer.Option(help="To compute in: float32, bfloat16, float16 or auto (as stored).")] = None,
    vector_dtype: Annotated[VectorDtype, typer.Option(help="To store vectors in.")] = VectorDtype.float16,
    normalize: Annotated[bool, typer.Option(help="Scale vectors to length 1.")] = True,
    text_lines: Annotated[bool, typer.Option("--text-lines", help="Each line of a .txt file is a document.")] = False,
    part_rows: Annotated[int | None, typer.Option(min=1, help="Passages in one Parquet file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the shards that the folder holds.")] = False,
    format: Annotated[Format | None, typer.Option(help="Default: a sentence on a terminal, JSON on a pipe.")] = None,
) -> None:
    from ragvec.bulk import PART_ROWS, check_folder, encode_corpus
    from ragvec.corpus import count_documents, read_documents, to_passages
    from ragvec.corpus.files import InputFile

    check_folder(output)
    report_skipped(corpus)
    from ragvec.encoder import Encoder  # only once the paths are right: loading takes seconds

    loaded = Encoder.load(
        encoder, revision=revision, device=device, dtype=dtype, max_length=max_length, batch_tokens=batch_tokens
    )
    inputs: list[InputFile] = []
    report = encode_corpus(
        to_passages(read_documents(corpus, text_lines=text_lines, on_file=inputs.append)),
        loaded,
        output,
        instruction=instruction,
        dtype=vector_dtype.value,
        normalize=normalize,
        inputs=inputs,
        part_rows=part_rows or PART_ROWS,
        overwrite=overwrite,
        total=count_documents(corpus, text_lines=text_lines) if sys.stderr.isatty() else None,
        show_progress=True,
    )
    as_json = (format or (Format.table if sys.stdout.isatty() else Format.json)) is Format.json
    print(json.dumps(report._asdict(), ensure_ascii=False) if as_json else _sentence(report))


def _sentence(report) -> str:
    origins = {"already there": report.kept, "with vectors of an earlier run": report.reused}
    notes = [f"{count:,} {origin}" for origin, count in origins.items() if count]
    if report.damaged:
        notes.append(f"{report.damaged:,} damaged files made anew")
    return (
        f"{report.folder}: {report.rows:,} passages, {report.tokens:,} tokens, {report.truncated:,} truncated, "
        f"in {report.seconds:.1f} s" + (f" ({', '.join(notes)})" if notes else "")
    )
