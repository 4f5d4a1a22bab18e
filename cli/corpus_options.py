"""The options that say how a corpus is read and cut, the same in every command that reads one."""

import sys
from collections.abc import Callable, Sequence
from enum import Enum
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from ragvec.cli.arguments import as_options
from ragvec.cli.help import CORPUS

if TYPE_CHECKING:
    from ragvec.corpus import Rejected
    from ragvec.corpus.passages import CorpusOptions
    from ragvec.shards import Failure

FAILURES_SHOWN = 5
CUT_HINT = "--passage-tokens 256 cuts long documents into passages instead"


class _Option(NamedTuple):
    name: str | None
    opts: list[str]


_OPTIONS = [_Option("encoding", ["--encoding"]), _Option("max_value_mb", ["--max-value-mb"])]  # that a bad file may need


class OnErrorChoice(str, Enum):
    """What to do with a row that can't be read."""

    stop = "stop"
    skip = "skip"


PassageTokens = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Cut documents into passages of at most so many tokens, 0 = not at all; default: files by 256, rows not at all.",
        rich_help_panel=CORPUS,
    ),
]
Overlap = Annotated[
    int,
    typer.Option(min=0, help="Tokens that a passage repeats from the one before, in whole sentences.", rich_help_panel=CORPUS),
]
AcrossPages = Annotated[
    bool, typer.Option("--across-pages", help="Passages may cross the pages of a PDF.", rich_help_panel=CORPUS)
]
TextFields = Annotated[
    str | None, typer.Option(help="Fields that make the text, with commas between: abstract,body.", rich_help_panel=CORPUS)
]
IdField = Annotated[str | None, typer.Option(help="Field that holds the id.", rich_help_panel=CORPUS)]
IdPrefix = Annotated[
    str | None,
    typer.Option(
        help="Put before each id, where several corpora have the same; {file} in it is the file that a row stands in.",
        rich_help_panel=CORPUS,
    ),
]
VectorField = Annotated[
    str | None,
    typer.Option(
        help="Field that holds each document's vector; nothing is encoded. --encoder names what made them, if known.",
        rich_help_panel=CORPUS,
    ),
]
MetadataFields = Annotated[
    str | None,
    typer.Option(
        help='Fields that become metadata, with commas between; default: all that are left. "" = none.', rich_help_panel=CORPUS
    ),
]
DropFields = Annotated[
    str | None, typer.Option(help="Fields that don't become metadata, with commas between.", rich_help_panel=CORPUS)
]
TextLines = Annotated[
    bool, typer.Option("--text-lines", help="Each line of a .txt file is a document.", rich_help_panel=CORPUS)
]
MaxValueMb = Annotated[
    int | None,
    typer.Option(min=1, help="Longest line, value, or file that is read whole, in MB; default: 128.", rich_help_panel=CORPUS),
]
TextEncoding = Annotated[
    str | None,
    typer.Option("--encoding", help="Of text files that are not UTF-8: cp949, cp1252, utf-16 ….", rich_help_panel=CORPUS),
]
Include = Annotated[
    str | None,
    typer.Option(
        help='Read only these files of a folder, as .gitignore names them, with commas: "*.md,docs/".', rich_help_panel=CORPUS
    ),
]
Exclude = Annotated[
    str | None, typer.Option(help='Leave these files and folders of a folder out: "drafts/,*.log".', rich_help_panel=CORPUS)
]
TextSuffixes = Annotated[
    str | None,
    typer.Option(help="Suffixes of further files that are text, with commas between: .py,.log.", rich_help_panel=CORPUS),
]
OnError = Annotated[
    OnErrorChoice,
    typer.Option(
        help="What to do with rows that can't be read: stop (of a folder: name them and go on), or skip and keep them.",
        rich_help_panel=CORPUS,
    ),
]


QuarantineFile = Annotated[
    Path | None,
    typer.Option(help="Where --on-error skip keeps what it skips; default: OUTPUT.quarantine.jsonl.", rich_help_panel=CORPUS),
]


def corpus_options(
    *,
    text_fields: str | None,
    id_field: str | None,
    text_lines: bool,
    passage_tokens: int | None,
    overlap: int,
    across_pages: bool,
    max_value_mb: int | None,
    encoding: str | None,
    include: str | None,
    exclude: str | None,
    text_suffixes: str | None,
    vector_field: str | None = None,
    metadata_fields: str | None = None,
    drop_fields: str | None = None,
) -> "CorpusOptions":
    """The options as the library takes them."""
    from ragvec.corpus.kinds import FileChoice
    from ragvec.corpus.passages import CorpusOptions

    given: dict[str, Any] = {} if max_value_mb is None else {"max_value_mb": max_value_mb}
    return CorpusOptions(
        text_fields=_names(text_fields),
        id_field=id_field,
        text_lines=text_lines,
        passage_tokens=passage_tokens,
        overlap=overlap,
        across_pages=across_pages,
        encoding=encoding,
        files=FileChoice(_names(include), _names(exclude), _names(text_suffixes)),
        vector_field=vector_field,
        metadata_fields=None if metadata_fields is None else _names(metadata_fields),
        drop_fields=_names(drop_fields),
        **given,
    )


def arguments_of(function: Callable[..., Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """Those of a command's options, by name, that a function takes."""
    return {name: chosen[name] for name in signature(function).parameters if name in chosen}


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def quarantine_file(chosen: Path | None, output: str | Path, corpora: Sequence[str]) -> Path:
    """Where --on-error skip keeps what it skips: OUTPUT.quarantine.jsonl unless it is told.

    Raises RagvecError for a file that is read as part of a corpus: it would be lost, or never end.
    """
    from ragvec.corpus.files import STDIN, corpus_files
    from ragvec.errors import WrongUsage
    from ragvec.objects import is_url

    if chosen is None:
        return _quarantine_beside(output)
    for corpus in corpora:
        if corpus == STDIN or is_url(corpus) or not chosen.exists():
            continue
        if any(chosen.samefile(path) for path in corpus_files(corpus).paths):
            raise WrongUsage(f"the quarantine file {chosen} is part of the corpus {corpus}: choose another place")
    return chosen


def _quarantine_beside(output: str | Path) -> Path:
    """Beside a folder; for a URL in the folder one stands in."""
    from ragvec.corpus.found import QUARANTINE_SUFFIX
    from ragvec.objects import as_path, is_url

    place = Path(as_path(output).name) if is_url(output) else Path(output)
    place = place if place.name not in ("", "..") else place.resolve()
    return place.parent / f"{place.name}{QUARANTINE_SUFFIX}"


def report_quarantined(count: int, path: Path | None) -> None:
    """Say on stderr how many rows were skipped, and where they are."""
    if count:
        place = f": see {path}" if path else ""
        what = "1 row could not be read and was" if count == 1 else f"{count:,} rows could not be read and were"
        print(f"{what} skipped{place}", file=sys.stderr)


def report_unread(unread: Sequence["Rejected"]) -> None:
    """Name on stderr the first files of a folder that could not be read and were passed over, and rows of others."""
    folders, parts = [one for one in unread if one.folder], [one for one in unread if one.partial]
    whole = [one for one in unread if not one.folder and not one.partial]
    kinds = (("file", "files"), ("row or rest of a file", "rows or rests of files"), ("folder", "folders"))
    for (what, plural), those in zip(kinds, (whole, parts, folders), strict=True):
        if not those:
            continue
        count = f"1 {what}" if len(those) == 1 else f"{len(those):,} {plural}"
        print(f"passed over {count} that could not be read:", file=sys.stderr)
        for one in those[:FAILURES_SHOWN]:
            print(f"  {as_options(one.error, _OPTIONS)}", file=sys.stderr)
        if len(those) > FAILURES_SHOWN:
            print(f"  and {len(those) - FAILURES_SHOWN:,} more: --on-error skip keeps all of them in a file", file=sys.stderr)


def report_failed(failed: Sequence["Failure"], count: int, *, again: bool = True) -> None:
    """Name on stderr the first passages that could not be encoded, and exit with 1 if there are any.

    again  the next run tries them again; else they were left out when shards were made
    """
    for failure in failed[:FAILURES_SHOWN]:
        print(f"not encoded: passage {failure.passage_id!r}: {failure.error}", file=sys.stderr)
    if count:
        then = "the next run tries them again" if again else "`ragvec encode` again tries them again"
        print(f"error: {count:,} passages could not be encoded and were left out; {then}", file=sys.stderr)
        raise SystemExit(1)
