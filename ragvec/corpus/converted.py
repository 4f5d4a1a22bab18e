"""PDF, HTML and DOCX files as documents, through markitdown (the extra `docs`)."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ragvec.corpus.conversion import Converter
from ragvec.corpus.files import read_whole
from ragvec.corpus.formats import split_heading
from ragvec.corpus.rows import Row


def converted_rows(
    file: BinaryIO, path: str | Path, name: str, converter: Converter, *, max_value_mb: int | None = None
) -> Iterator[Row]:
    """A file as one document named after it: Markdown made of it, and its title where it has one.

    Raises RagvecError if markitdown is missing, or cannot read the file within bounds.
    """
    suffix = next(suffix.lower() for suffix in reversed(Path(name).suffixes) if suffix.lower() not in (".gz", ".zst"))
    given, markdown = converter.convert(read_whole(file, path, max_value_mb), suffix, str(path))
    heading, text = split_heading(markdown)
    title = given or heading
    if heading not in ("", title):
        text = markdown
    if text.strip() or title:
        yield str(path), {"_id": name, "title": title, "text": text.strip()}
