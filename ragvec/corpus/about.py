"""What is known of a file that is one document, besides its text: where it lies, what it is, its pages and headings."""

import os
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any

from ragvec.corpus.compressed import COMPRESSIONS
from ragvec.corpus.fields import FieldNames, wanted
from ragvec.corpus.kinds import suffix_of
from ragvec.corpus.parts import PAGED, headings, pages
from ragvec.objects import ObjectPath
from ragvec.records import Document, Part

# What may be known of a file beside its text, as metadata of its documents and passages.
FILE_FACTS = dict.fromkeys(("path", "kind", "size", "mtime", "page", "heading"))


def of_file(document: Document, path: Path, name: str, *, kind: str | None, names: FieldNames) -> Document:
    """A file's document with the file's name as title, if it has none, with its pages or headings, and with metadata.

    name   the file from the corpus' folder; kind: its format
    The metadata are `path` (this name), `kind` (pdf, md …), `size` in bytes and `mtime` in UTC; a field of the file's own that
    is called so takes their place, and only those that `names` wants are kept.
    """
    suffix = suffix_of(name)
    text, parts = pages(document.text) if suffix in PAGED else (document.text, ())
    if kind == "markdown" or (kind == "converted" and suffix not in PAGED):
        parts = headings(text)
    facts = {"path": name, "kind": suffix[1:] or "text", **_measured(path)}
    if len(parts) == 1 and parts[0].apart:
        facts |= parts[0].metadata
    return replace(
        document,
        text=text,
        title=document.title or _stem(name),
        metadata=_completed(document.metadata, wanted(facts, names)),
        parts=tuple(Part(part.start, wanted(part.metadata, names), part.apart) for part in parts),
    )


def of_row(document: Document, name: str, *, names: FieldNames) -> Document:
    """A row's document with `path`, the table that it stands in (`name`), as metadata, if it has none and `names` wants it."""
    return replace(document, metadata=_completed(document.metadata, wanted({"path": name}, names)))


def _measured(path: Path) -> dict[str, Any]:
    if isinstance(path, ObjectPath):
        return _facts(path.found.size, path.found.modified) if path.found else {}
    try:
        about = os.stat(path)
        return _facts(about.st_size, datetime.fromtimestamp(int(about.st_mtime), timezone.utc))
    except (OSError, ValueError, OverflowError):  # gone since it was read, or of a year that dates lack
        return {}


def _facts(size: int, changed: datetime) -> dict[str, Any]:
    return {"size": size, "mtime": changed.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")}


def _completed(given: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    return {**given, **{name: value for name, value in facts.items() if name not in given}}


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    if path.suffix.lower() in COMPRESSIONS:
        path = path.with_suffix("")
    return path.stem
