"""`ragvec plan`: what encoding and indexing a corpus will take, before anything is spent."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ragvec.cli.choices import AllDevices, DocumentInstruction, EncoderSource, MaxLength, Offline, Revision, TruncateDim
from ragvec.cli.corpus_options import (
    CUT_HINT,
    AcrossPages,
    Exclude,
    IdField,
    IdPrefix,
    Include,
    MaxValueMb,
    Overlap,
    PassageTokens,
    TextEncoding,
    TextFields,
    TextLines,
    TextSuffixes,
    arguments_of,
    corpus_options,
)
from ragvec.cli.help import ENCODER, SHARED
from ragvec.cli.output import Form, report_skipped, size_text, wants_json

if TYPE_CHECKING:
    from ragvec.encoder import Encoder
    from ragvec.ingest.plan import Plan


PAGE = "encoding.md"
EXAMPLES = (
    "ragvec plan corpus.jsonl --encoder my-encoder",
    "ragvec plan corpus.jsonl --encoder my-encoder --nodes 10 --gpus 8",
)


def run(
    corpus: Annotated[str, typer.Argument(help="File or folder, as for `ragvec encode`.")],
    encoder: EncoderSource = None,
    revision: Revision = None,
    instruction: DocumentInstruction = None,
    max_length: MaxLength = None,
    passage_tokens: PassageTokens = None,
    overlap: Overlap = 0,
    across_pages: AcrossPages = False,
    text_fields: TextFields = None,
    id_field: IdField = None,
    id_prefix: IdPrefix = None,
    text_lines: TextLines = False,
    max_value_mb: MaxValueMb = None,
    encoding: TextEncoding = None,
    include: Include = None,
    exclude: Exclude = None,
    text_suffixes: TextSuffixes = None,
    device: AllDevices = None,
    dtype: Annotated[
        str | None, typer.Option(help="To compute in: float32, bfloat16, float16, int8 or auto.", rich_help_panel=ENCODER)
    ] = None,
    offline: Offline = False,
    nodes: Annotated[int, typer.Option(min=1, help="Machines that share the corpus.", rich_help_panel=SHARED)] = 1,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, help="GPUs of each machine; where none is here, an estimate for H100s.", rich_help_panel=SHARED),
    ] = None,
    vector_dtype: Annotated[str, typer.Option(help="To store vectors in: float16, float32, int8 or binary.")] = "float16",
    truncate_dim: TruncateDim = None,
    sample_seconds: Annotated[float, typer.Option(min=0.1, help="Most time to spend on encoding a sample.")] = 20.0,
    format: Annotated[Form | None, typer.Option(help="Default: lines on a terminal, JSON on a pipe.")] = None,
) -> None:
    """Measure a sample, and print what the whole will take."""
    from ragvec.corpus.files import STDIN
    from ragvec.encoder import Encoder
    from ragvec.errors import WrongUsage
    from ragvec.ingest.plan import plan_corpus

    if corpus == STDIN:
        raise WrongUsage("standard input can be read only once: save it to a file, and plan that")
    reading = corpus_options(**arguments_of(corpus_options, locals()))
    report_skipped(corpus, reading.files)
    lasting = {"revision": revision, "max_length": max_length, "truncate_dim": truncate_dim}
    loaded = Encoder.load(encoder, device=device, dtype=dtype, offline=offline, **lasting)
    plan = plan_corpus(
        corpus,
        loaded,
        reading=reading,
        id_prefix=id_prefix or "",
        instruction=instruction,
        dtype=vector_dtype,
        devices=_devices(device, loaded),
        nodes=nodes,
        gpus=gpus,
        sample_seconds=sample_seconds,
    )
    as_json = wants_json(format)
    print(json.dumps(plan._asdict()) if as_json else "\n".join(_lines(plan)))


def _devices(device: str | None, encoder: "Encoder") -> int:
    """`ragvec encode` uses all GPUs unless one is named."""
    if device is not None or encoder.device.type != "cuda":
        return 1
    import torch

    return torch.cuda.device_count()


def _lines(plan: "Plan") -> list[str]:
    from ragvec.progress import duration

    gpu = "" if plan.gpu_memory_bytes is None else f", {size_text(plan.gpu_memory_bytes)} on each GPU"
    cut = f", {plan.truncated:,} truncated ({CUT_HINT})" if plan.truncated else ""
    return [
        f"corpus   {plan.documents:,} documents, {plan.passages:,} passages, {plan.tokens:,} tokens{cut}",
        f"time     {duration(plan.seconds)} at {plan.tokens_per_s:,.0f} tokens/s"
        + (f" on {plan.devices} devices" if plan.devices > 1 else "")
        + (f", estimated: {plan.estimated}" if plan.estimated else ""),
        f"memory   {size_text(plan.memory_bytes)} a process{gpu}",
        f"shards   {size_text(plan.shards_bytes)}, {plan.dimension}-d vectors",
        f"index    {size_text(plan.index_bytes)}",
        f"         from {plan.sampled:,} passages encoded as a sample",
    ]
