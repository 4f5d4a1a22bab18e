"""From a corpus to the passages that are encoded: which fields are read, and how long a passage may be."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ragvec.corpus import count_documents, read_documents, to_passages
from ragvec.corpus.ahead import read_ahead
from ragvec.corpus.chunk import Cutter, cut_documents
from ragvec.corpus.documents import Rejected
from ragvec.corpus.encodings import check_encoding
from ragvec.corpus.files import MAX_VALUE_MB, STDIN, InputFile, corpus_files
from ragvec.corpus.kinds import ALL_FILES, NAMED_BY_FILE, FileChoice
from ragvec.errors import WrongUsage
from ragvec.records import Document, Passage

PASSAGE_TOKENS = 256  # of files that are a document each, where nothing else is asked for


@dataclass(frozen=True, slots=True)
class CorpusOptions:
    """How a corpus is read and cut.

    text_fields, id_field, text_lines, max_value_mb, encoding, files   as in `read_documents`
    vector_field, dimension, metadata_fields, drop_fields   likewise
    passage_tokens   most tokens of a passage, title included; 0 = a document is one passage; None = see `usually_cut`
    overlap          tokens that a passage repeats from the one before
    across_pages     passages may cross the pages of a PDF; otherwise each page begins one
    """

    text_fields: tuple[str, ...] = ()
    id_field: str | None = None
    text_lines: bool = False
    passage_tokens: int | None = None
    overlap: int = 0
    across_pages: bool = False
    max_value_mb: int = MAX_VALUE_MB
    encoding: str | None = None
    files: FileChoice = ALL_FILES
    vector_field: str | None = None
    dimension: int | None = None
    metadata_fields: tuple[str, ...] | None = None
    drop_fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.overlap and not self.passage_tokens:
            raise WrongUsage("an overlap needs a length of passages: give `passage_tokens` too")
        check_encoding(self.encoding)
        if self.max_value_mb < 1:
            raise WrongUsage(f"max_value_mb is {self.max_value_mb}: it must be 1 or more")
        if self.vector_field is not None and self.passage_tokens:
            raise WrongUsage("documents that bring their vectors are not cut: leave `passage_tokens` out, or `vector_field`")


def open_documents(
    source: str | Path,
    options: CorpusOptions,
    *,
    id_prefix: str = "",
    made_prefix: str = "",
    on_file: Callable[[InputFile], None] | None = None,
    on_reject: Callable[[Rejected], None] | None = None,
    on_unread: Callable[[Rejected], None] | None = None,
    on_found: Callable[[str], None] | None = None,
) -> Iterator[Document]:
    """The corpus' documents, read as these options say; the other arguments are those of `read_documents`."""
    return read_documents(
        source,
        text_fields=options.text_fields,
        id_field=options.id_field,
        vector_field=options.vector_field,
        dimension=options.dimension,
        metadata_fields=options.metadata_fields,
        drop_fields=options.drop_fields,
        text_lines=options.text_lines,
        max_value_mb=options.max_value_mb,
        encoding=options.encoding,
        files=options.files,
        id_prefix=id_prefix,
        made_prefix=made_prefix,
        on_file=on_file,
        on_reject=on_reject,
        on_unread=on_unread,
        on_found=on_found,
    )


class _Room(Protocol):
    def room(self, instruction: str = "") -> int:
        """How many tokens of a text are read after an instruction."""


class Measures(Protocol):
    """What cutting asks of an encoder: how many tokens texts have, and how many it reads."""

    @property
    def prompts(self) -> _Room: ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has, by itself."""


def usually_cut(
    options: CorpusOptions, sources: Sequence[str | Path], encoder: "Measures", instruction: str = ""
) -> CorpusOptions:
    """Corpora cut as is usual where nothing is asked for: files that are a document each into passages, rows not at all."""
    asked = options.passage_tokens is not None or options.vector_field is not None
    if asked or not any(_holds_files(source, options) for source in sources):
        return options
    return replace(options, passage_tokens=min(PASSAGE_TOKENS, encoder.prompts.room(instruction)))


def _holds_files(source: str | Path, options: CorpusOptions) -> bool:
    """Whether a file of the corpus is a document, rather than rows."""
    if str(source) == STDIN:
        return False
    kinds = map(options.files.format_of, corpus_files(source, options.files, on_unlistable=lambda error: None).paths)
    return any(kind in NAMED_BY_FILE and not (kind == "text" and options.text_lines) for kind in kinds)


def count_passages(source: str | Path, options: CorpusOptions) -> int | None:
    """About how many passages a corpus will make, for a progress bar; None where only reading and cutting would tell."""
    return None if options.passage_tokens else count_documents(source, text_lines=options.text_lines, files=options.files)


class Expected:
    """About how many passages corpora will make, for a progress bar: as many as documents at first, then by how many those that
    have come by have made."""

    def __init__(self, sources: Sequence[str | Path], options: CorpusOptions, *, among: int = 1) -> None:
        """Count the documents; of standard input, say, nobody knows how many there are. among: processes that share them."""
        counts = [count_documents(source, text_lines=options.text_lines, files=options.files) for source in sources]
        known = [count for count in counts if count is not None]
        self._documents = sum(known) if len(known) == len(counts) else None
        self._among, self._sources, self._read, self._made = among, len(sources), 0, 0

    def __call__(self) -> int | None:
        """The number by now, of one process; None where the documents can't be counted beforehand."""
        if self._documents is None:
            return None
        expected = round(self._made * self._documents / self._read) if self._made else self._documents
        return math.ceil(max(expected, self._made) / self._among)

    def read(self, documents: Iterable[Document]) -> Iterator[Document]:
        """A source's documents, counted as they come by."""
        for document in documents:
            self._read += 1
            yield document

    def made(self, passages: Iterable[Passage]) -> Iterator[Passage]:
        """What is made of a source's, counted."""
        for passage in passages:
            self._made += 1
            yield passage
        self._sources -= 1
        if not self._sources:
            self._documents = self._read  # fewer than were counted, where some can't be read


def cut_for(
    documents: Iterable[Document],
    options: CorpusOptions,
    encoder: "Measures | None",
    instruction: str = "",
    *,
    expected: Expected | None = None,
) -> Iterator[Passage]:
    """The documents' passages as `passages_of` makes them, read and cut by a thread that runs ahead; expected: counts them."""
    passages = passages_of(expected.read(documents) if expected else documents, options, encoder, instruction)
    return read_ahead(expected.made(passages) if expected else passages, lambda passage: len(passage.text))


def passages_of(
    documents: Iterable[Document], options: CorpusOptions, encoder: "Measures | None", instruction: str = ""
) -> Iterator[Passage]:
    """The documents' passages, measured in this encoder's tokens; None will do where nothing is cut.

    Raises RagvecError if passages are to be longer than the encoder reads.
    """
    if not options.passage_tokens:
        return to_passages(documents, across_pages=options.across_pages)
    assert encoder is not None
    room = encoder.prompts.room(instruction)
    if options.passage_tokens > room:
        raise WrongUsage(
            f"passages of {options.passage_tokens} tokens, but the encoder reads {room} of a text: "
            f"choose `passage_tokens` {room} or less, or raise `max_length`"
        )
    cutter = Cutter(encoder.count_tokens, options.passage_tokens, options.overlap, across_pages=options.across_pages)
    return cut_documents(documents, cutter)
