"""How results are printed: hits as a table for people, NDJSON for programs, TREC runs for evaluation tools."""

import json
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragvec.errors import NoDocuments, RagvecError
from ragvec.records import Document, Hit

if TYPE_CHECKING:
    from ragvec.corpus.kinds import FileChoice
    from ragvec.retrieve.lookup import ValueCount

BOLD, PLAIN = "\033[1m", "\033[0m"
ID_WIDTH = 24
WEAK = "~"  # before the score of a hit that is a poor match
SNIPPET_LINES = 2
RUN_NAME = "ragvec"


class Format(str, Enum):
    """The forms that hits can be printed in."""

    table = "table"
    json = "json"
    trec = "trec"


class Form(str, Enum):
    """The forms that all other results can be printed in."""

    table = "table"
    json = "json"


def wants_json(form: Form | None) -> bool:
    """Whether JSON is to be printed: where it was asked for, and by default on a pipe."""
    return (form or (Form.table if sys.stdout.isatty() else Form.json)) is Form.json


def default_format() -> Format:
    """A table on a terminal, NDJSON on a pipe."""
    return Format.table if sys.stdout.isatty() else Format.json


def print_hits(results: Iterable[tuple[str, str, list[Hit]]], form: Format, *, single: bool) -> None:
    """Print the hits of each (query_id, query); `single`: there is one query, so that its id would tell nothing."""
    for query_id, query, hits in results:
        if form is Format.json:
            lines = [_json_line(hit, None if single else query_id) for hit in hits]
        elif form is Format.trec:
            lines = [_trec_line(hit, query_id) for hit in hits]
        else:
            lines = _table(query, hits, show_query=not single)
        write_lines(lines)


def print_context(record: dict[str, Any], form: Format | None) -> None:
    """Print a context, as `ragvec.retrieve.context.Context.record` gives it: its text, or with --format json all of it."""
    if not record["sources"]:
        print("nothing found", file=sys.stderr)
    if form is Format.json:
        write_lines([json.dumps(record, ensure_ascii=False)])
    elif record["text"]:
        write_lines([record["text"].removesuffix("\n")])


def listing(documents: Sequence[Document]) -> list[str]:
    """Documents as a table, a line each."""
    if not documents:
        return ["no documents"]
    columns = shutil.get_terminal_size((100, 24)).columns
    ids = [fit(_clean(document.doc_id), ID_WIDTH) for document in documents]
    width = max(2, *map(text_width, ids))
    room = max(20, columns - width - 2)
    said = (" · ".join(filter(None, (_clean(one.title), _clean(one.text[: 4 * room])))) for one in documents)
    lines = zip(ids, said, strict=True)
    return [
        f"{_pad('id', width)}  title and text",
        *(f"{_pad(name, width)}  {fit(text, room)}".rstrip() for name, text in lines),
    ]


def value_lines(values: "Sequence[ValueCount]") -> list[str]:
    """Values of a field as a table: how many documents have each, and the value as a filter names it."""
    if not values:
        return ["no values"]
    columns = shutil.get_terminal_size((100, 24)).columns
    counts = [f"{one.documents:,}" for one in values]
    width = max(map(len, ["documents", *counts]))
    named = (fit(json.dumps(one.value, ensure_ascii=False), max(20, columns - width - 2)) for one in values)
    rows = (f"{count:>{width}}  {_clean(value)}" for count, value in zip(counts, named, strict=True))
    return [f"{'documents':>{width}}  value", *rows]


def write_lines(lines: Iterable[str]) -> None:
    """Print lines as UTF-8, whatever the locale: ids and text must come out as they went in."""
    sys.stdout.flush()
    sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def report_skipped(corpus: str, choice: "FileChoice") -> None:
    """Name on stderr the files of a corpus folder that ragvec does not read, if there are any that it does."""
    from ragvec.corpus.files import STDIN, corpus_files

    if corpus == STDIN:
        return
    try:
        found = corpus_files(corpus, choice, on_unlistable=lambda error: None)  # whoever reads it will say
    except NoDocuments:
        return
    if found.skipped:
        needs_docs = any(path.is_file() and choice.format_of(path) for path in found.skipped)
        hint = " (PDF, HTML, Office files and the like need markitdown: pip install 'ragvec[docs]')" if needs_docs else ""
        _name_passed_over(found.skipped, "hold no documents", hint)
    if found.outside:
        _name_passed_over(found.outside, "are links out of the folder or to a folder, or no regular files", "")


def _name_passed_over(paths: Sequence[Path], why: str, hint: str) -> None:
    from ragvec.corpus.files import path_text

    shown = ", ".join(map(path_text, paths[:3])) + (", …" if len(paths) > 3 else "")
    print(f"passed over {len(paths):,} that {why}: {shown}{hint}", file=sys.stderr)


def hit_record(hit: Hit) -> dict[str, Any]:
    """A hit as the JSON object that docs/retrieval.md shows."""
    return {name: round(value, 6) if isinstance(value, float) else value for name, value in hit.record().items()}


def size_text(count: float) -> str:
    """A number of bytes for people: "999 bytes", "1.5 MB"."""
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:,.1f} TB"


def text_width(text: str) -> int:
    """How many columns a text takes on a terminal: Chinese, Japanese and Korean characters take two, accents none."""
    return sum(map(_char_width, text))


def fit(text: str, width: int) -> str:
    """The text in at most `width` columns, with … where it was cut."""
    if text_width(text) <= width:
        return text
    return text[: _prefix_length(text, width - 1)].rstrip() + "…"


def wrap(text: str, width: int, lines: int) -> list[str]:
    """The text in at most `lines` lines of `width` columns, broken at spaces if it has any; the last is cut with …."""
    wrapped: list[str] = []
    while text and len(wrapped) < lines - 1:
        end = _prefix_length(text, width)
        if end < len(text) and (space := text.rfind(" ", 0, end + 1)) > 0:
            end = space
        wrapped.append(text[:end].rstrip())
        text = text[end:].lstrip()
    return [*wrapped, fit(text, width)] if text else wrapped


def _table(query: str, hits: Sequence[Hit], *, show_query: bool) -> list[str]:
    heading = [f"{_clean(query)}"] if show_query else []
    if not hits:
        return [*heading, "nothing found", ""] if show_query else ["nothing found"]
    columns = shutil.get_terminal_size((100, 24)).columns
    id_width = min(ID_WIDTH, max(2, *(text_width(_shown_id(hit)) for hit in hits)))
    indent = 2 + 2 + 7 + 2 + id_width + 2
    room = max(20, columns - indent)
    lines = [*heading, f"{'#':>2}  {'score':>7}  {_pad('id', id_width)}  title and text"]
    for hit in hits:
        body = _body(hit, query, room)
        score = f"{WEAK if hit.weak else ''}{hit.score:.4f}"
        lines.append(f"{hit.rank:>2}  {score:>7}  {_pad(fit(_shown_id(hit), id_width), id_width)}  {body[0]}")
        lines.extend(f"{'':{indent}}{line}" for line in body[1:])
    if any(hit.weak for hit in hits):
        lines.append(fit(f"{WEAK} weak: neither near the query nor with half of its words", columns))
    return [*lines, ""] if show_query else lines


def _shown_id(hit: Hit) -> str:
    """The document's id, after the index it is in where several were searched."""
    return _clean(hit.doc_id if hit.index is None else f"{hit.index}: {hit.doc_id}")


def _body(hit: Hit, query: str, room: int) -> list[str]:
    from ragvec.retrieve.highlight import SEARCHED, snippet

    styled = sys.stdout.isatty()
    title = [fit(_clean(hit.title), room)] if hit.title.strip() else []
    shown = _clean(hit.snippet) if hit.snippet else snippet(_clean(hit.text[:SEARCHED]), query, SNIPPET_LINES * room)
    text = wrap(shown, room, SNIPPET_LINES)
    if styled:
        title = [f"{BOLD}{line}{PLAIN}" for line in title]
        text = [_marked(line, query) for line in text]
    return title + text or [""]


def _marked(line: str, query: str) -> str:
    from ragvec.retrieve.highlight import marks

    parts, end = [], 0
    for start, stop in marks(line, query):
        parts += [line[end:start], BOLD, line[start:stop], PLAIN]
        end = stop
    return "".join([*parts, line[end:]])


def _json_line(hit: Hit, query_id: str | None) -> str:
    record = hit_record(hit) if query_id is None else {"query_id": query_id, **hit_record(hit)}
    return json.dumps(record, ensure_ascii=False)


def _trec_line(hit: Hit, query_id: str) -> str:
    for name in (query_id, hit.doc_id):
        if not name or re.search(r"\s", name):
            raise RagvecError(f"the id {name!r} holds white space, which a TREC run can't carry: use --format json")
    return f"{query_id} Q0 {hit.doc_id} {hit.rank} {float(hit.score)!r} {RUN_NAME}"


def _clean(text: str) -> str:
    """One line without control characters, which would move a terminal's cursor or worse."""
    return " ".join("".join(" " if is_control(char) else char for char in text).split())


def is_control(char: str) -> bool:
    """Whether a character is none that is seen: a terminal may obey it."""
    return unicodedata.category(char) in ("Cc", "Cs")


def _pad(text: str, width: int) -> str:
    return text + " " * (width - text_width(text))


def _prefix_length(text: str, width: int) -> int:
    """How many characters fit into `width` columns; at least one."""
    used = 0
    for place, char in enumerate(text):
        used += _char_width(char)
        if used > width:
            return max(1, place)
    return len(text)


def _char_width(char: str) -> int:
    """Vowels and finals of Hangul spelled by letters (NFD) stand in the two columns of their syllable's first."""
    if char.isascii():
        return 1
    if unicodedata.category(char) in ("Mn", "Me", "Cf") or "\u1160" <= char <= "\u11ff" or "\ud7b0" <= char <= "\ud7ff":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
