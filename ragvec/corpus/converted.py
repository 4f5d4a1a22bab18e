"""PDF, HTML and DOCX files as documents, through markitdown (the extra `docs`)."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

from ragvec.corpus.files import read_bytes
from ragvec.corpus.formats import Row, split_heading
from ragvec.errors import RagvecError


def converted_rows(file: BinaryIO, path: str | Path, name: str) -> Iterator[Row]:
    """A file as one document named after it: Markdown made of it, and its title where it has one.

    Raises RagvecError if markitdown is missing, or cannot read the file.
    """
    suffix = next(suffix for suffix in reversed(Path(name).suffixes) if suffix.lower() not in (".gz", ".zst"))
    data = read_bytes(file, path)
    converters, about = _converters()
    with _quiet():
        try:
            result = converters[suffix.lower()].convert(io.BytesIO(data), about(extension=suffix.lower()))
        except Exception as error:  # whatever its many parsers raise, the file is at fault
            reason = str(error).strip().split("\n")[-1] or type(error).__name__
            raise RagvecError(f"{path} can't be converted to text: {reason}") from error
    heading, text = split_heading(result.markdown)
    title = (result.title or "").strip() or heading
    if heading not in ("", title):
        text = result.markdown
    if text.strip() or title:
        yield str(path), {"_id": name, "title": title, "text": text.strip()}


@cache
def _converters():
    """What converts each kind; chosen by name, as markitdown's own choice takes any damaged file for plain text."""
    try:
        with _quiet():
            from markitdown import StreamInfo
            from markitdown.converters import DocxConverter, HtmlConverter, PdfConverter
    except ImportError as error:
        raise RagvecError(f"PDF, HTML and DOCX need markitdown ({error}): pip install 'ragvec[docs]'") from error
    html = HtmlConverter()
    return {".html": html, ".htm": html, ".pdf": PdfConverter(), ".docx": DocxConverter()}, StreamInfo


@contextmanager
def _quiet() -> Iterator[None]:
    """Its parsers warn of each font and stray tag, and of tools for sound and video that are not there."""
    logger = logging.getLogger("pdfminer")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
