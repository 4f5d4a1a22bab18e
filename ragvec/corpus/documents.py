"""A corpus as a stream of documents: JSONL, JSON, Parquet, CSV/TSV, text, Markdown, folders of them, BEIR, standard input."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ragvec.corpus.about import FILE_FACTS, of_file, of_row
from ragvec.corpus.asked import AskedFields
from ragvec.corpus.conversion import Converter
from ragvec.corpus.fields import FieldNames, NumberLists, to_document
from ragvec.corpus.files import (
    STDIN,
    InputFile,
    byte_lines,
    corpus_files,
    open_input,
    path_text,
)
from ragvec.corpus.formats import jsonl_rows
from ragvec.corpus.found import CorpusFiles
from ragvec.corpus.ids import Ids, SameId
from ragvec.corpus.kinds import ALL_FILES, NAMED_BY_FILE, FileChoice
from ragvec.corpus.parquet import parquet_length
from ragvec.corpus.parts import metadata_at, stretches
from ragvec.corpus.readers import file_rows
from ragvec.corpus.remarks import Remarks
from ragvec.corpus.rows import BadRow, Row
from ragvec.corpus.spelling import composed_names
from ragvec.corpus.tables import SAMPLE_ROWS, looked_ahead, table_length
from ragvec.corpus.vectors import VectorField
from ragvec.errors import Damaged, NoDocuments, RagvecError, Unavailable, WrongRow
from ragvec.objects import is_url
from ragvec.records import Document, Passage

_TABLES = ("csv", "tsv", "parquet", "arrow")


class Rejected(NamedTuple):
    """A row, a folder, or the rest of a file, that could not be read: where, why, and what stood there.

    record   None for a folder, a file's rest, and what is over the limit of length
    partial  whether other documents of its file could be read
    folder   whether it is a folder, whose files nobody knows
    """

    place: str
    error: str
    record: Any
    partial: bool = False
    folder: bool = False


def read_documents(
    source: str | Path,
    *,
    text_fields: Sequence[str] = (),
    id_field: str | None = None,
    vector_field: str | None = None,
    dimension: int | None = None,
    metadata_fields: Sequence[str] | None = None,
    drop_fields: Sequence[str] = (),
    text_lines: bool = False,
    max_value_mb: int | None = None,
    encoding: str | None = None,
    files: FileChoice = ALL_FILES,
    id_prefix: str = "",
    made_prefix: str = "",
    on_file: Callable[[InputFile], None] | None = None,
    on_reject: Callable[[Rejected], None] | None = None,
    on_unread: Callable[[Rejected], None] | None = None,
    on_found: Callable[[str], None] | None = None,
) -> Iterator[Document]:
    """Read a corpus, one document at a time.

    source       a file (.jsonl .json .csv .tsv .txt .md .html .pdf .docx, also with .gz or .zst; .parquet), a folder of them,
                 or "-": JSONL from standard input
    text_fields  the fields that make the text, in order; empty = the usual names, and a table without any gets its columns of
                 words as `column: value` lines. id_field: likewise. A folder's file that has none of them is read as usual
    vector_field the field that holds each document's vector: a list of numbers, of this dimension (None = as the first has)
    metadata_fields  the fields that become metadata, None = all that are left over; drop_fields: those that do not
    text_lines   each non-empty line of a .txt file is a document; otherwise the file is one
    max_value_mb longest line, JSON value, CSV field, Parquet value, and file that is read whole, in MB (2**20 bytes);
                 None = 128, and what is longer names no argument that would raise it
    encoding     of text files that are not UTF-8 (cp949, cp1252, …); byte-order marks of UTF-8 and UTF-16 count always
    files        which files of a folder are read, and which further suffixes are of text
    id_prefix    what stands before every id, see `Ids`; made_prefix: after it, before those that are made of file names and
                 contents
    on_file      called with each file's size and SHA-256 once it has been read to its end
    on_reject    called with each row that can't be read, and with the rest of a file that can't; None = the first one raises
    on_unread    called with what can't be read of a folder, without its record: files that give no document; of others, unless
                 on_reject hears of them, rows and a file's rest; subfolders that can't be listed. None = the first one raises
    on_found     called with the name, from the source's folder and as it stands there, of each file that gives a document
    The names of files in ids and metadata are composed (NFC), however the folder spells them.
    A document without an id gets one made from its title and text; fields that are not id, title or text become metadata. A
    file that is one document has the file's name as title, if it has no other, and metadata of its own: see `about.of_file`.
    A row of a folder's CSV or TSV file has the file's name as `path`.
    Raises RagvecError with file and line for what cannot be read: bad JSON or UTF-8, no text field, duplicate ids, NULs, what
    is over the limit or inflates without end, pipes and devices, no document at all.
    """
    vectors = None if vector_field is None else VectorField(vector_field, dimension)
    metadata = None if metadata_fields is None else tuple(metadata_fields)
    names = FieldNames(tuple(text_fields), id_field, vector=vectors, metadata=metadata, drop=tuple(drop_fields))
    lists = NumberLists()
    with Converter(max_value_mb) as converter:
        reading = _Reading(
            text_lines=text_lines,
            max_value_mb=max_value_mb,
            encoding=encoding,
            files=files,
            made_prefix=made_prefix,
            vector_field=vector_field,
            on_file=on_file,
            on_reject=on_reject,
            on_unread=on_unread,
            on_found=on_found,
            converter=converter,
            rejected=[0],
            asked=AskedFields(names),
            remarks=Remarks(drop_fields),
        )
        for document in _all_documents(source, names, Ids(id_prefix, made_prefix), reading):
            lists.look(document.metadata)
            yield document
        reading.asked.tell(_shown(source), reading.remarks)
        reading.remarks.close()


def to_passages(documents: Iterable[Document], *, across_pages: bool = False) -> Iterator[Passage]:
    """One passage for each document, with the document's id; of one with pages, one for each of them unless they may cross."""
    for document in documents:
        spans = stretches(document, across_pages=across_pages)
        if len(spans) == 1:
            yield Passage(document.doc_id, document.doc_id, document.text, title=document.title, metadata=document.metadata)
            continue
        for number, (start, end) in enumerate(spans):
            yield Passage(
                passage_id=f"{document.doc_id}#{number}",
                doc_id=document.doc_id,
                text=document.text[start:end].strip(),
                title=document.title,
                metadata=metadata_at(document, start),
            )


def count_documents(source: str | Path, *, text_lines: bool = False, files: FileChoice = ALL_FILES) -> int | None:
    """About how many documents a corpus holds, for a progress bar; None where only parsing tells, or not all can be read."""
    if str(source) == STDIN:
        return None
    try:
        kinds = [(path, files.format_of(path)) for path in corpus_files(source, files).paths]
        uncounted = ("json", "arrow", *(("jsonl", "csv", "tsv") if is_url(source) else ()))  # nothing is fetched twice
        if any(kind in uncounted for _, kind in kinds) or (is_url(source) and text_lines):
            return None
        return sum(_count(path, kind, text_lines) for path, kind in kinds)
    except RagvecError:  # reading it will say what is wrong, or skip it
        return None


def _count(path: Path, kind: str | None, text_lines: bool) -> int:
    if kind == "parquet":
        return parquet_length(path)
    if kind == "jsonl" or (kind == "text" and text_lines):
        with open_input(path) as file:
            lines = byte_lines(file, path, keep_place=True)
            return sum(1 for _, line in lines if line is None or not line.isspace())
    if kind in ("csv", "tsv"):
        with open_input(path) as file:
            return table_length(file, quoted=kind == "csv")
    return 1


class _Reading(NamedTuple):
    """How files are read, and who hears of it: arguments of `read_documents`; and what converts files."""

    text_lines: bool
    max_value_mb: int | None
    encoding: str | None
    files: FileChoice
    made_prefix: str
    vector_field: str | None
    on_file: Callable[[InputFile], None] | None
    on_reject: Callable[[Rejected], None] | None
    on_unread: Callable[[Rejected], None] | None
    on_found: Callable[[str], None] | None
    converter: Converter
    rejected: list[int]  # how many rows were, so far
    asked: AskedFields
    remarks: Remarks


class _Found(NamedTuple):
    """A file's rows, and the fields to read in them."""

    rows: Iterator[Row]
    names: FieldNames


class _File(NamedTuple):
    """A file of a corpus while it is read: its rows, its names in messages and from the source's folder ("" = stdin).

    name   as ids and metadata have it; entry: as the folder has it
    """

    rows: Iterator[Row]
    shown: str
    name: str = ""
    entry: str = ""
    kind: str | None = "jsonl"
    in_folder: bool = False
    path: Path | None = None  # of one that is a document as a whole

    def may_be_passed_over(self, error: RagvecError) -> bool:
        """Whether the file is one of many, and it alone is at fault."""
        return self.in_folder and not isinstance(error, SameId)

    def rows_and_names(self, names: FieldNames) -> _Found:
        """Its rows, and which fields make a document of them: looked for in its first rows, where that may differ."""
        table, optional = self.kind in _TABLES, self.in_folder or self.kind in NAMED_BY_FILE
        if not table and not (optional and (names.text or names.id)):
            return _Found(self.rows, names)
        seen, rows = looked_ahead(self.rows)
        fields = [row for _, row in seen if not isinstance(row, BadRow)]
        return _Found(rows, names.for_rows(fields, optional=optional, table=table))


class _BadRows:
    """Rows of a file that can't be read: told once it gives a document; where all its first rows are bad it is foreign."""

    def __init__(self, on_unread: Callable[[Rejected], None] | None) -> None:
        self._on_unread = on_unread
        self._early: list[tuple[str, RagvecError]] = []
        self._gave = False

    def add(self, place: str, error: RagvecError) -> None:
        """Tell of a row, now or later. Raises the first one's error where no file of ours begins like that."""
        self._early.append((place, error))
        if self._gave:
            self.tell()
        elif len(self._early) == SAMPLE_ROWS:
            self.close()

    def tell(self) -> None:
        """The file has given a document: tell of the rows that waited for that."""
        self._gave = True
        for place, error in self._early:
            assert self._on_unread is not None
            self._on_unread(Rejected(place, str(error), None, partial=True))
        self._early.clear()

    def close(self) -> None:
        """The file has ended. Raises the first row's error if none gave a document."""
        if self._early:
            raise self._early[0][1]


def _all_documents(source: str | Path, names: FieldNames, ids: Ids, reading: _Reading) -> Iterator[Document]:
    """The documents of all files. Raises RagvecError for a file that can't be read, unless somebody hears of it."""
    read = 0
    unread: list[RagvecError] = []
    for file in _files(source, reading):
        ids.begin(file.shown, file.name, whole=file.path is not None)
        gave = 0
        try:
            for document in _documents(file, names, ids, reading):
                if reading.on_found and file.name and not gave:
                    reading.on_found(file.entry)
                gave += 1
                yield document
        except (Unavailable, Damaged):  # of the store that all files lie in: passing them over would lose the rest
            raise
        except RagvecError as error:
            about = Rejected(file.shown, str(error), None)
            if reading.on_reject is not None and file.name:
                reading.on_reject(about)
            elif reading.on_unread is not None and file.may_be_passed_over(error):
                unread.append(error)
                reading.on_unread(about._replace(partial=gave > 0))
            else:
                raise
        read += gave
    if not read and unread:
        raise unread[0]
    if not read:
        rejected = reading.rejected[0]
        reason = f" that can be read: {rejected:,} were rejected" if rejected else ""
        raise NoDocuments(f"{_shown(source)} holds no documents{reason}")


def _shown(source: str | Path) -> str:
    return "standard input" if str(source) == STDIN else path_text(source)


def _files(source: str | Path, reading: _Reading) -> Iterator[_File]:
    if str(source) == STDIN:
        with open_input(STDIN, reading.on_file) as file:
            yield _File(jsonl_rows(file, "standard input", reading.max_value_mb), "standard input")
        return
    files = _corpus_files(source, reading)
    entries = [path_text(path.relative_to(files.root).as_posix()) for path in files.paths]
    for path, entry, name in zip(files.paths, entries, composed_names(entries), strict=True):
        kind = reading.files.format_of(path)
        yield _File(
            rows=_file_rows(path, name, files, reading),
            shown=path_text(path),
            name=name,
            entry=entry,
            kind=kind,
            in_folder=files.within is not None,
            path=path if kind in NAMED_BY_FILE and not (kind == "text" and reading.text_lines) else None,
        )


def _documents(file: _File, names: FieldNames, ids: Ids, reading: _Reading) -> Iterator[Document]:
    """A file's documents; rows that can't be read are rejected, passed over in a folder, or raise."""
    found, is_csv = file.rows_and_names(names), file.kind in ("csv", "tsv")
    bad = _BadRows(reading.on_unread)
    for place, row in found.rows:
        try:
            if isinstance(row, BadRow):
                raise WrongRow(row.error)
            document = to_document(row, place, ids, found.names, from_csv=is_csv)
            reading.asked.look(row if file.path is None else {**row, **FILE_FACTS})
            if file.path is not None:
                document = of_file(document, file.path, file.name, kind=file.kind, names=names)
            elif is_csv and file.in_folder:
                document = of_row(document, file.name, names=names)
        except RagvecError as error:
            if reading.on_reject is not None:
                reading.rejected[0] += 1
                reading.on_reject(Rejected(place, str(error), row.record if isinstance(row, BadRow) else row))
                continue
            if reading.on_unread is None or not file.may_be_passed_over(error):
                raise
            bad.add(place, error)
            continue
        bad.tell()
        yield document
    bad.close()


def _corpus_files(source: str | Path, reading: _Reading) -> CorpusFiles:
    heard = reading.on_reject or reading.on_unread
    if heard is None:
        return corpus_files(source, reading.files)
    return corpus_files(
        source, reading.files, on_unlistable=lambda error: heard(Rejected(path_text(source), str(error), None, folder=True))
    )


def _file_rows(path: Path, name: str, files: CorpusFiles, reading: _Reading) -> Iterator[Row]:
    return file_rows(
        path,
        path_text(path),
        reading.made_prefix + name,
        reading.max_value_mb,
        kind=reading.files.format_of(path),
        text_lines=reading.text_lines,
        within=files.within,
        on_file=reading.on_file,
        converter=reading.converter,
        encoding=reading.encoding,
        vector_field=reading.vector_field,
        remarks=reading.remarks,
    )
