"""PDF, HTML, Office files and the like as documents, through markitdown (the extra `docs`)."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ragvec.corpus.conversion import Converter
from ragvec.corpus.files import read_whole
from ragvec.corpus.formats import split_heading
from ragvec.corpus.kinds import suffix_of
from ragvec.corpus.parts import PAGE_END, PAGED
from ragvec.corpus.rows import Row

_BLANKS = " \t\r\n"  # not what ends a page: empty ones count


def converted_rows(
    file: BinaryIO, path: str | Path, name: str, converter: Converter, *, max_value_mb: int | None = None
) -> Iterator[Row]:
    """A file as one document named after it: Markdown made of it, and its title where it has one.

    Raises RagvecError if markitdown is missing, or cannot read the file within bounds.
    """
    suffix = suffix_of(name)
    given, markdown, fields = converter.convert(read_whole(file, path, max_value_mb), suffix, str(path))
    heading, text = split_heading(markdown.partition(PAGE_END)[0] if suffix in PAGED else markdown)
    title = given or heading
    if heading not in ("", title) or suffix in PAGED:
        text = markdown
    if text.strip() or title:
        yield str(path), {**fields, "_id": name, "title": title, "text": text.strip(_BLANKS)}
