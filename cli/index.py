"""`ragvec index`: a corpus or shards in, an index out."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from itertools import filterfalse
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragvec.artefacts import is_shards, kind_of
from ragvec.cli.arguments import Parameter, as_options
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
    CUT_HINT,
    AcrossPages,
    DropFields,
    Exclude,
    IdField,
    IdPrefix,
    Include,
    MaxValueMb,
    MetadataFields,
    OnError,
    OnErrorChoice,
    Overlap,
    PassageTokens,
    QuarantineFile,
    TextEncoding,
    TextFields,
    TextLines,
    TextSuffixes,
    VectorField,
    arguments_of,
    corpus_options,
    quarantine_file,
    report_failed,
    report_quarantined,
    report_unread,
)
from ragvec.cli.help import SOURCES
from ragvec.cli.output import Form, report_skipped
from ragvec.cli.search_settings import FilterFields, IndexKey, Language, MaxMemory, Recall, search_settings

if TYPE_CHECKING:
    from ragvec.corpus import Rejected
    from ragvec.corpus.quarantine import Quarantine
    from ragvec.encoder.protocol import TextEncoder
    from ragvec.ingest.report import BuildReport


Corpora = Annotated[
    list[str],
    typer.Argument(metavar="CORPUS...", help='Corpora (files, folders, or "-" for stdin), or a folder of encoded shards.'),
]
Sync = Annotated[
    bool,
    typer.Option(
        "--sync", help="Remove documents that came from these corpora and are there no more.", rich_help_panel=SOURCES
    ),
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Go on, with --sync, whenever files change, until Ctrl-C.", rich_help_panel=SOURCES)
]
SourceName = Annotated[
    str | None,
    typer.Option(
        help="What the corpus is called in the index, for one that has moved; default: its path.", rich_help_panel=SOURCES
    ),
]


PAGE = "retrieval.md"
EXAMPLES = (
    "ragvec index documents/",
    "ragvec index documents/ --sync --passage-tokens 128 --overlap 32",
    "ragvec index corpus.jsonl -o my-index --encoder my-encoder",
)


def run(
    context: typer.Context,
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
    across_pages: AcrossPages = False,
    text_fields: TextFields = None,
    id_field: IdField = None,
    vector_field: VectorField = None,
    metadata_fields: MetadataFields = None,
    drop_fields: DropFields = None,
    text_lines: TextLines = False,
    max_value_mb: MaxValueMb = None,
    encoding: TextEncoding = None,
    include: Include = None,
    exclude: Exclude = None,
    text_suffixes: TextSuffixes = None,
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
    watch: Watch = False,
    format: Annotated[Form, typer.Option(help="How the summary is printed.")] = Form.table,
) -> None:
    """Build the index or bring it up to date, and sum up what changed."""
    reading = corpus_options(**arguments_of(corpus_options, locals()))
    from ragvec.ingest.build import build
    from ragvec.ingest.watch import watched

    for corpus in filterfalse(is_shards, corpora):
        report_skipped(corpus, reading.files)
    document_instruction = prompted(document_instruction, prompt_name, encoder, revision=revision, offline=offline)
    search = search_settings(index_key, recall, max_memory, filter_fields=filter_fields, language=language)
    make = partial(
        build, corpora[0], output, others=corpora[1:], name=source, id_prefix=id_prefix, encoder=encoder,
        encoder_options=given(revision=revision, max_length=max_length), document_instruction=document_instruction,
        device=device, dtype=dtype, offline=offline, search=search, reading=reading, sync=sync or watch,
    )  # fmt: skip
    place = quarantine_file(quarantine, output, corpora) if on_error is OnErrorChoice.skip else None
    once = partial(_once, place=place, format=format, sync=sync or watch, again=not is_shards(corpora[0]))
    if not watch:
        return once(make)
    loaded = None if vector_field else partial(_loaded, output, device=device, dtype=dtype, offline=offline)
    changes = watched(corpora, reading.files, [output, *filter(None, [place])])
    options = context.command.params
    _keep_up(make, partial(_try, once, options), first=partial(_first, output, once, options), load=loaded, changes=changes)


def goes_on(*, vector_field: str | None, **_: Any) -> str:
    """What an interruption leaves: vectors beside the index, which the next run takes up; nothing where they were brought."""
    return "nothing was changed" if vector_field else "the same command goes on where it stopped"


def _once(make: "Callable[..., BuildReport]", *, place: Path | None, format: Form, sync: bool, again: bool) -> None:
    """Build once, say what changed, and name what could not be read; place: where --on-error skip keeps that."""
    from ragvec.corpus.quarantine import Quarantine

    unread: list[Rejected] = []
    rejects = Quarantine(place)
    with rejects if place else nullcontext() as on_reject:
        report = make(on_reject=on_reject, on_unread=unread.append, show_progress=True)
    _print(report, format, sync)
    sys.stdout.flush()
    _report_left_out(report, unread, rejects, again=again)


def _keep_up(
    make: "partial[BuildReport]",
    again: "Callable[..., bool]",
    *,
    first: "Callable[..., None]",
    load: "Callable[[], TextEncoder] | None",
    changes: Iterator[bool],
) -> None:
    """Build now and again after each change; while another process writes the index, as soon as it has ended."""
    next(changes)
    with suppress(SystemExit):  # passages that could not be encoded were named
        first(make)
    if load is not None:
        make = partial(make, encoder=load(), encoder_options=None)  # it is loaded once for all changes
    print("watching for changes: Ctrl-C ends it", file=sys.stderr)
    try:
        waits = False
        for changed in changes:
            if changed or waits:
                waits = again(make, told=waits)
    except KeyboardInterrupt:
        print("no longer watching", file=sys.stderr)


def _first(
    output: Path, once: "Callable[..., None]", parameters: Sequence[Parameter], make: "Callable[..., BuildReport]"
) -> None:
    """Build; of a corpus that has become empty say what its index keeps, for its next file is a change like any other."""
    from ragvec.errors import NoDocuments

    try:
        once(make)
    except NoDocuments as error:
        if kind_of(output) != "index":
            raise
        print(f"error: {as_options(str(error), parameters)}", file=sys.stderr)


def _try(
    once: "Callable[..., None]", parameters: Sequence[Parameter], make: "Callable[..., BuildReport]", *, told: bool = False
) -> bool:
    """Build after a change, and say in one line what went wrong: the next change tries again. Raises what none will mend:
    wrong usage, a standard output that is closed, faults of ours.

    Returns whether another process is in the way, so that no change need come; told: it has been said.
    """
    from ragvec.errors import Busy, RagvecError, WrongUsage, first_line

    try:
        with suppress(SystemExit):
            once(make)
    except (WrongUsage, BrokenPipeError):
        raise
    except RagvecError as error:
        busy = isinstance(error, Busy)
        if not (busy and told):
            print(f"error: {as_options(str(error), parameters)}", file=sys.stderr)
        return busy
    except (OSError, MemoryError) as error:  # a file that has gone meanwhile, a full disk
        print(f"error: {first_line(error)}", file=sys.stderr)
    return False


def _loaded(output: Path, **loading: Any) -> "TextEncoder":
    from ragvec.index import Index

    with Index.open(output, **loading) as index:
        return index.encoder


def _report_left_out(report: "BuildReport", unread: "list[Rejected]", rejects: "Quarantine", *, again: bool) -> None:
    """Name on stderr what is not in the index, and exit with 1 if that are passages that could not be encoded."""
    report_unread(unread)
    report_quarantined(rejects.count, rejects.path)
    report_failed(report.failed, len(report.failed), again=again)


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
        yield (
            f"{report.truncated:,} of {report.encoded:,} encoded passages were longer than the encoder reads and were cut: "
            f"{CUT_HINT}"
        )
