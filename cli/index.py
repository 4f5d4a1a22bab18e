"""`ragvec index`: a corpus or shards in, an index out."""

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import filterfalse
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ragvec.cli.choices import (
    Device,
    DocumentInstruction,
    Dtype,
    EncoderSource,
    MaxLength,
    Offline,
    PromptName,
    Revision,
    given,
    prompted,
)
from ragvec.cli.corpus_options import (
    DropFields,
    IdField,
    MaxValueMb,
    MetadataFields,
    OnError,
    OnErrorChoice,
    Overlap,
    PassageTokens,
    QuarantineFile,
    TextFields,
    TextLines,
    VectorField,
    corpus_options,
    quarantine_file,
    report_failed,
    report_quarantined,
)
from ragvec.cli.output import Form, report_skipped
from ragvec.cli.search_settings import FilterFields, IndexKey, Language, MaxMemory, Recall, search_settings

if TYPE_CHECKING:
    from ragvec.ingest.report import BuildReport


Corpora = Annotated[
    list[str],
    typer.Argument(metavar="CORPUS...", help='Corpora (files, folders, or "-" for stdin), or a folder of encoded shards.'),
]
Sync = Annotated[bool, typer.Option("--sync", help="Remove documents that came from these corpora and are there no more.")]
SourceName = Annotated[
    str | None, typer.Option(help="What the corpus is called in the index, for one that has moved; default: its path.")
]
IdPrefix = Annotated[str | None, typer.Option(help="Put before each id, where ids of several corpora would be the same.")]


def run(
    corpora: Corpora,
    output: Annotated[Path, typer.Option("--output", "-o", envvar="RAGVEC_INDEX", help="Index folder.")] = Path("ragvec-index"),
    encoder: EncoderSource = None,
    revision: Revision = None,
    max_length: MaxLength = None,
    document_instruction: DocumentInstruction = None,
    prompt_name: PromptName = None,
    device: Device = None,
    dtype: Dtype = None,
    offline: Offline = False,
    passage_tokens: PassageTokens = None,
    overlap: Overlap = 0,
    text_fields: TextFields = None,
    id_field: IdField = None,
    vector_field: VectorField = None,
    metadata_fields: MetadataFields = None,
    drop_fields: DropFields = None,
    text_lines: TextLines = False,
    max_value_mb: MaxValueMb = None,
    on_error: OnError = OnErrorChoice.stop,
    quarantine: QuarantineFile = None,
    sync: Sync = False,
    source: SourceName = None,
    id_prefix: IdPrefix = None,
    index_key: IndexKey = None,
    recall: Recall = None,
    max_memory: MaxMemory = None,
    filter_fields: FilterFields = None,
    language: Language = None,
    format: Annotated[Form, typer.Option(help="How the summary is printed.")] = Form.table,
) -> None:
    """Build the index or bring it up to date, and sum up what changed."""
    from ragvec.corpus.quarantine import Quarantine
    from ragvec.ingest.build import build, is_shards

    for corpus in filterfalse(is_shards, corpora):
        report_skipped(corpus)
    reading = corpus_options(
        text_fields=text_fields, id_field=id_field, text_lines=text_lines, passage_tokens=passage_tokens, overlap=overlap,
        max_value_mb=max_value_mb, vector_field=vector_field, metadata_fields=metadata_fields, drop_fields=drop_fields,
    )  # fmt: skip
    document_instruction = prompted(document_instruction, prompt_name, encoder, revision=revision, offline=offline)
    search = search_settings(index_key, recall, max_memory, filter_fields=filter_fields, language=language)
    options = given(revision=revision, max_length=max_length)
    skips = on_error is OnErrorChoice.skip
    rejects = Quarantine(quarantine_file(quarantine, output, corpora) if skips else None)
    with rejects if skips else nullcontext() as on_reject:
        report = build(
            corpora[0], output, others=corpora[1:], name=source, id_prefix=id_prefix, encoder=encoder, encoder_options=options,
            document_instruction=document_instruction, device=device, dtype=dtype, offline=offline, search=search,
            reading=reading, on_reject=on_reject, sync=sync, show_progress=True,
        )  # fmt: skip
    _print(report, format, sync)
    report_quarantined(rejects.count, rejects.path)
    report_failed(report.failed, len(report.failed), again=not is_shards(corpora[0]))


def _print(report: "BuildReport", format: Form, sync: bool) -> None:
    if format is Form.json:
        failed = [failure._asdict() for failure in report.failed]
        print(json.dumps({**report._asdict(), "path": str(report.path), "failed": failed}, ensure_ascii=False))
    else:
        print("\n".join(_sentences(report, sync)))
    if report.held:
        print(f"{report.held:,} documents stay as they were: their new text could not be encoded", file=sys.stderr)
    if report.empty:
        more = ", …" if report.empty > len(report.first_empty) else ""
        what = "1 text is empty" if report.empty == 1 else f"{report.empty:,} texts are empty"
        print(f"{what}, and found by id and filter alone: {', '.join(map(repr, report.first_empty))}{more}", file=sys.stderr)


def _sentences(report: "BuildReport", sync: bool) -> Iterator[str]:
    yield (
        f"{report.path}: {report.added:,} documents added, {report.replaced:,} replaced, {report.unchanged:,} unchanged"
        f"{f', {report.removed:,} removed' if sync else ''}; "
        f"{report.passages:,} passages, {report.dimension}-d, in {report.seconds:.1f} s"
    )
    if report.kept:
        yield f"{report.kept:,} documents that did not come by were kept: {'; '.join(report.doubts)}"
    elif report.doubts:
        yield f"nothing was removed for want of certainty: {'; '.join(report.doubts)}"
    if report.truncated:
        yield f"{report.truncated:,} of {report.encoded:,} encoded passages were longer than the encoder reads and were cut"
