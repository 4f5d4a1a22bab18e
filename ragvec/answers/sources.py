"""What an answer rests on: the passages that a model was given, under the numbers that it cites them by."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ragvec.records import Hit

_CITED = re.compile(r"\[(\d{1,4}(?:\s*[,;–-]\s*\d{1,4})*)\]")
_RANGE = re.compile(r"(\d+)\s*[–-]\s*(\d+)")
_WEB = ("http://", "https://")
# where the metadata says whence a document came, the first that is there
_FILES = ("path", "file", "source_path", "filename", "file_name", "source")
_PAGES = ("page", "page_number")
_URLS = ("url", "source_url", "link", "href", "source")


class Source(NamedTuple):
    """A passage that a model was given. file, page, url: as far as the document's metadata says; url is http or https."""

    number: int
    doc_id: str
    passage_id: str
    title: str
    score: float
    file: str | None = None
    page: int | str | None = None
    url: str | None = None

    def __str__(self) -> str:
        """`[1] How plants make food (photosynthesis) · plants.pdf, page 3`."""
        page = None if self.page is None else f"page {self.page}"
        place = ", ".join(filter(None, (self.url or self.file, page)))
        name = f"{self.title} ({self.doc_id})" if self.title.strip() else self.doc_id
        return f"[{self.number}] {name}" + (f" · {place}" if place and place != self.doc_id else "")

    def record(self) -> dict[str, Any]:
        """As JSON values, without what is not known."""
        return {name: value for name, value in self._asdict().items() if value is not None}


class Place(NamedTuple):
    """Whence a document came, as far as its metadata says; url is http or https."""

    file: str | None = None
    page: int | str | None = None
    url: str | None = None

    def record(self) -> dict[str, Any]:
        """As JSON values, without what is not known."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def place_of(metadata: Mapping[str, Any]) -> Place:
    """Whence a document with these metadata came."""
    url = _first(metadata, _URLS, lambda value: isinstance(value, str) and value.lower().startswith(_WEB))
    file = _first(metadata, _FILES, lambda value: isinstance(value, str) and not value.lower().startswith(_WEB))
    page = _first(metadata, _PAGES, lambda value: isinstance(value, int | str) and not isinstance(value, bool))
    return Place(file, page, url)


def source_of(number: int, hit: Hit) -> Source:
    """A hit as the source of this number."""
    told = {name: getattr(hit, name) for name in ("doc_id", "passage_id", "title", "score")}
    return Source(number=number, **told, **place_of(hit.metadata)._asdict())


def cited_numbers(text: str, count: int) -> list[int]:
    """The numbers of sources that an answer cites, [2] as well as [1, 3] and [1-3], ascending; those of no source left out."""
    found: set[int] = set()
    for numbers in _CITED.findall(text):
        for first, last in _RANGE.findall(numbers):
            found |= set(range(int(first), min(int(last), count) + 1))
        found |= set(map(int, re.findall(r"\d+", numbers)))
    return sorted(number for number in found if 1 <= number <= count)


def _first(metadata: Mapping[str, Any], names: tuple[str, ...], fits: Any) -> Any:
    return next((metadata[name] for name in names if metadata.get(name) not in (None, "") and fits(metadata[name])), None)
