"""`ragvec encode`: a corpus in, Parquet shards out."""

import json
import os
import sys
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ragvec.cli.choices import Offline
from ragvec.cli.corpus_options import (
    IdField,
    MaxValueMb,
    OnError,
    OnErrorChoice,
    Overlap,
    PassageTokens,
    QuarantineFile,
    TextFields,
    TextLines,
    corpus_options,
    quarantine_file,
    report_failed,
    report_quarantined,
)
from ragvec.cli.output import Form, report_skipped, wants_json

_BYTES_PER_TOKEN = 4  # of a corpus, about; compressed ones hold more than that


class VectorDtype(str, Enum):
    """How vectors are stored."""

    float16 = "float16"
    float32 = "float32"
    int8 = "int8"
    binary = "binary"


def run(
    context: typer.Context,
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
    passage_tokens: PassageTokens = None,
    overlap: Overlap = 0,
    text_fields: TextFields = None,
    id_field: IdField = None,
    text_lines: TextLines = False,
    max_value_mb: MaxValueMb = None,
    on_error: OnError = OnErrorChoice.stop,
    quarantine: QuarantineFile = None,
    batch_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens in one batch; default: measured.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: all GPUs, or the best here.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="To compute in: float32, bfloat16, float16, int8 (weights, CPU) or auto (as stored).")
    ] = None,
    offline: Offline = False,
    torch_compile: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile the layers first; default: on a GPU where the corpus repays it."),
    ] = None,
    vector_dtype: Annotated[VectorDtype, typer.Option(help="To store vectors in.")] = VectorDtype.float16,
    truncate_dim: Annotated[int | None, typer.Option(min=1, help="Keep the first so many dimensions (Matryoshka).")] = None,
    normalize: Annotated[bool, typer.Option(help="Scale vectors to length 1.")] = True,
    part_rows: Annotated[int | None, typer.Option(min=1, help="Passages in one Parquet file.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="On this machine; default: one for each GPU.")] = None,
    rank: Annotated[
        int | None, typer.Option(envvar=["RANK", "SLURM_PROCID"], min=0, help="This process' number among --world-size.")
    ] = None,
    world_size: Annotated[
        int | None,
        typer.Option(envvar=["WORLD_SIZE", "SLURM_STEP_NUM_TASKS"], min=1, help="Processes that share corpus and output."),
    ] = None,
    log_json: Annotated[str | None, typer.Option(help='Append progress as JSON lines to this file; "-" = stderr.')] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the shards that the folder holds.")] = False,
    format: Annotated[Form | None, typer.Option(help="Default: a sentence on a terminal, JSON on a pipe.")] = None,
) -> None:
    from ragvec.corpus.files import STDIN, InputFile
    from ragvec.corpus.passages import count_passages, cut_for, open_documents
    from ragvec.corpus.quarantine import Quarantine
    from ragvec.errors import RagvecError
    from ragvec.ingest import PART_ROWS, Rank, check_folder, encode_corpus
    from ragvec.shards import load_manifest

    check_folder(output)
    reading = corpus_options(text_fields, id_field, text_lines, passage_tokens, overlap, max_value_mb)
    place = Rank(rank or 0, world_size) if world_size and world_size > 1 else Rank()
    place.check()
    devices = [device or "cpu"] * processes if processes else _all_gpus(device) if place.of == 1 else []
    if corpus == STDIN and (place.of > 1 or len(devices) > 1):
        raise RagvecError("standard input can't be read by several processes: save it to a file, or use --processes 1")
    if place.number == 0:
        report_skipped(corpus)
    if len(devices) > 1:
        from ragvec.ingest.processes import encode_in_processes

        report = encode_in_processes(context.obj, output, _numbered(devices))
        _finish(report, load_manifest(output).failed, format, quarantined=0, path=None)
        return
    from ragvec.encoder import Encoder  # only once the paths are right: loading takes seconds

    lasting = {"revision": revision, "max_length": max_length, "truncate_dim": truncate_dim}
    lasting = {name: value for name, value in lasting.items() if value is not None}
    loaded = Encoder.load(
        encoder,
        device=device or _own_gpu(place.of),
        dtype=dtype,
        batch_tokens=batch_tokens,
        torch_compile=bool(torch_compile),
        offline=offline,
        **lasting,
    )
    if torch_compile is None and _repays_compiling(loaded, corpus, place.of):
        loaded.compile()
    if loaded.int8_cosines and place.number == 0:
        print(
            "int8 weights: cosine {:.4f} to the vectors without them, {:.4f} at least".format(*loaded.int8_cosines),
            file=sys.stderr,
        )
    shown = sys.stderr.isatty()
    inputs: list[InputFile] = []
    skips = on_error is OnErrorChoice.skip
    rejects = Quarantine(quarantine_file(quarantine, output, [corpus]) if place.number == 0 and skips else None)
    with ExitStack() as stack:
        on_reject = stack.enter_context(rejects) if skips else None
        documents = open_documents(corpus, reading, on_file=inputs.append, on_reject=on_reject)
        total = count_passages(corpus, reading) if shown or log_json else None
        report = encode_corpus(
            cut_for(documents, reading, loaded, instruction),
            loaded,
            output,
            instruction=instruction,
            dtype=vector_dtype.value,
            normalize=normalize,
            inputs=inputs,
            count_rejected=lambda: rejects.count,
            encoder_options=lasting,
            part_rows=part_rows or PART_ROWS,
            overwrite=overwrite,
            rank=place,
            total=None if total is None else -(-total // place.of),
            show_progress=place.number == 0,
            speed=_speed(loaded) if shown or log_json else None,
            log=_log(log_json, place.number, stack) if log_json else None,
        )
    failed = load_manifest(output).failed if report.complete else ()
    _finish(report, failed, format, quarantined=rejects.count, path=rejects.path)


def _all_gpus(device: str | None) -> list[str]:
    """A device for each of several GPUs; nothing where one process is enough."""
    if device is not None:
        return []
    import torch

    count = torch.cuda.device_count()
    return [f"cuda:{number}" for number in range(count)] if count > 1 else []


def _numbered(devices: list[str]) -> list[str]:
    """cuda, cuda … become cuda:0, cuda:1 …"""
    return [f"cuda:{number}" if device == "cuda" else device for number, device in enumerate(devices)]


def _own_gpu(world: int) -> str | None:
    """The GPU that torchrun or SLURM means this process to use."""
    if world == 1:
        return None
    import torch

    count = torch.cuda.device_count()
    local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or "0"
    return f"cuda:{int(local) % count}" if count else None


def _repays_compiling(encoder, corpus: str, world: int) -> bool:
    """Whether this process' share of the corpus is large enough to compile for it; unknown for standard input."""
    from ragvec.corpus.files import STDIN, corpus_files
    from ragvec.encoder.speed import compiling_repays

    if encoder.device.type != "cuda" or corpus == STDIN:
        return False
    size = sum(path.stat().st_size for path in corpus_files(corpus).paths)
    return compiling_repays(encoder, size / _BYTES_PER_TOKEN / world)


def _speed(encoder):
    from ragvec.encoder.speed import Speed

    return Speed(encoder)


def _log(path: str, rank: int, stack: ExitStack):
    from ragvec.errors import WrongInput

    try:
        file = sys.stderr if path == "-" else stack.enter_context(open(path, "a", encoding="utf-8"))  # noqa: SIM115
    except OSError as error:
        raise WrongInput(f"{path} cannot be written: {error.strerror}") from error

    def write(record: dict) -> None:
        file.write(json.dumps({"rank": rank, **record}, ensure_ascii=False) + "\n")
        file.flush()

    return write


def _finish(report, failed, format: Form | None, *, quarantined: int, path: Path | None) -> None:
    as_json = wants_json(format)
    print(json.dumps(report._asdict(), ensure_ascii=False) if as_json else _sentence(report))
    report_quarantined(quarantined, path)
    report_failed(failed, report.failed)


def _sentence(report) -> str:
    origins = {"already there": report.kept, "with vectors of an earlier run": report.reused}
    notes = [f"{count:,} {origin}" for origin, count in origins.items() if count]
    if report.damaged:
        notes.append(f"{report.damaged:,} damaged files made anew")
    loss = f"; recall@10 {report.recall:.3f} of float32's" if report.recall is not None else ""
    waiting = "" if report.complete else "; the folder is complete once the other ranks are"
    return (
        f"{report.folder}: {report.rows:,} passages, {report.tokens:,} tokens, {report.truncated:,} truncated, "
        f"in {report.seconds:.1f} s" + (f" ({', '.join(notes)})" if notes else "") + loss + waiting
    )
