"""`ragvec index`: a corpus or shards in, an index out."""

from contextlib import nullcontext
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
    quarantine_beside,
    report_failed,
    report_quarantined,
)
from ragvec.cli.output import report_skipped
from ragvec.cli.search_settings import IndexKey, MaxMemory, Recall, search_settings


def run(
    source: Annotated[str, typer.Argument(help='Corpus (file, folder, or "-" for stdin), or a folder of encoded shards.')],
    output: Annotated[Path, typer.Option("--output", "-o", envvar="RAGVEC_INDEX", help="Index folder.")] = Path("ragvec-index"),
    encoder: Annotated[str | None, typer.Option("--encoder", "-e", help="Folder or hub id; default: the bundled one.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    max_length: Annotated[int | None, typer.Option(min=1, help="Longest prompt in tokens.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the best here.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto (as stored).")] = None,
    offline: Offline = False,
    passage_tokens: PassageTokens = None,
    overlap: Overlap = 0,
    text_fields: TextFields = None,
    id_field: IdField = None,
    text_lines: TextLines = False,
    max_value_mb: MaxValueMb = None,
    on_error: OnError = OnErrorChoice.stop,
    quarantine: QuarantineFile = None,
    sync: Annotated[bool, typer.Option("--sync", help="Remove documents that are no longer in the source.")] = False,
    index_key: IndexKey = None,
    recall: Recall = None,
    max_memory: MaxMemory = None,
) -> None:
    from ragvec.corpus.quarantine import Quarantine
    from ragvec.ingest.build import build, is_shards

    if not is_shards(source):
        report_skipped(source)
    lasting = {name: value for name, value in {"revision": revision, "max_length": max_length}.items() if value is not None}
    rejects = Quarantine(quarantine or quarantine_beside(output))
    with rejects if on_error is OnErrorChoice.skip else nullcontext() as on_reject:
        report = build(
            source,
            output,
            encoder=encoder,
            encoder_options=lasting,
            device=device,
            dtype=dtype,
            offline=offline,
            search=search_settings(index_key, recall, max_memory),
            reading=corpus_options(text_fields, id_field, text_lines, passage_tokens, overlap, max_value_mb),
            on_reject=on_reject,
            sync=sync,
            show_progress=True,
        )
    print(
        f"{report.path}: {report.added:,} documents added, {report.replaced:,} replaced, {report.unchanged:,} unchanged"
        f"{f', {report.removed:,} removed' if sync else ''}; "
        f"{report.passages:,} passages, {report.dimension}-d, in {report.seconds:.1f} s"
    )
    if report.truncated:
        print(f"{report.truncated:,} of {report.encoded:,} encoded passages were longer than the encoder reads and were cut")
    report_quarantined(rejects.count, rejects.path)
    report_failed(report.failed, len(report.failed))
