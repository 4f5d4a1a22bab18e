"""The options of `ragvec encode` that no other command has."""

from enum import Enum
from typing import Annotated

import typer

from ragvec.cli.help import ENCODER, SHARED, STORED
from ragvec.cli.output import Form


class VectorDtype(str, Enum):
    """How vectors are stored."""

    float16 = "float16"
    float32 = "float32"
    int8 = "int8"
    binary = "binary"


Corpus = Annotated[str, typer.Argument(help='File or folder (JSONL, JSON, Parquet, CSV, text, Markdown, BEIR); "-" = stdin.')]
OutputPlace = Annotated[str, typer.Option("--output", "-o", help="Folder of the shards, or a URL: s3://, gs://, az://.")]
SingleWriter = Annotated[
    bool, typer.Option("--single-writer", help="Nobody else writes to this URL: for a store that can't tell writers apart.")
]
LongestPrompt = Annotated[
    int | None,
    typer.Option(min=1, help="Longest prompt in tokens; what is longer is cut and counted.", rich_help_panel=ENCODER),
]
BatchTokens = Annotated[
    int | None, typer.Option(min=1, help="Most tokens in one batch; default: measured.", rich_help_panel=ENCODER)
]
ComputeDtype = Annotated[
    str | None,
    typer.Option(
        help="To compute in: float32, bfloat16, float16, int8 (weights, CPU) or auto (as stored).", rich_help_panel=ENCODER
    ),
]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile",
        help="Compile the layers first; default: on a GPU where the corpus repays it.",
        rich_help_panel=ENCODER,
    ),
]
StoredDtype = Annotated[VectorDtype, typer.Option(help="To store vectors in.", rich_help_panel=STORED)]
Normalize = Annotated[bool, typer.Option(help="Scale vectors to length 1.", rich_help_panel=STORED)]
PartRows = Annotated[int | None, typer.Option(min=1, help="Passages in one Parquet file.", rich_help_panel=STORED)]
Processes = Annotated[
    int | None, typer.Option(min=1, help="On this machine; default: one for each GPU.", rich_help_panel=SHARED)
]
RankNumber = Annotated[
    int | None,
    typer.Option(
        envvar=["RANK", "SLURM_PROCID"], min=0, help="This process' number among --world-size.", rich_help_panel=SHARED
    ),
]
WorldSize = Annotated[
    int | None,
    typer.Option(
        envvar=["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"],
        min=1,
        help="Processes that share corpus and output.",
        rich_help_panel=SHARED,
    ),
]
OnRay = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help='On a Ray cluster: its address, or "auto"; --processes: how many actors.',
        rich_help_panel=SHARED,
    ),
]
LogJson = Annotated[str | None, typer.Option(help='Append progress as JSON lines to this file; "-" = stderr.')]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the shards that the folder holds.")]
Summary = Annotated[Form | None, typer.Option(help="Default: a sentence on a terminal, JSON on a pipe.")]
