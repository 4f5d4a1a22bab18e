"""The parts of a document's text: pages, which passages do not cross, and the headings that stand above each passage."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from ragvec.records import Document, Part

PAGED = (".pdf", ".pptx")  # files of which the text has PAGE_END between its pages
PAGE_END = "\f"  # stands between the pages of a text that was made of a file with pages
_HEADING_OR_FENCE = re.compile(
    r"^ {0,3}(?:"
    r"(?P<fence>`{3,}|~{3,})(?P<language>[^\n]*)"
    r"|(?P<level>#{1,6})(?:[ \t]+(?P<title>\S[^\n]*))?[ \t]*"
    r"|(?P<over>[^\W_][^\n|]*)\n {0,3}(?P<under>=+|-{2,})[ \t]*"
    r")\r?$",
    re.MULTILINE,
)
_LINK = re.compile(r"!?\[([^\]]*)\](?:\([^)]*\))?")
_MARKS = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)|[ \t\r]+#*[ \t\r]*$")
_LONGEST_HEADING = 200


def stretches(document: Document, *, across_pages: bool) -> list[tuple[int, int]]:
    """Where each stretch of a document's text begins and ends that passages may not cross; one at least."""
    starts = [] if across_pages else [part.start for part in document.parts if part.apart and part.start]
    return list(zip([0, *starts], [*starts, len(document.text)], strict=True))


def metadata_at(document: Document, start: int) -> dict[str, Any]:
    """The metadata of a passage that begins here: the document's, and what is true of the part."""
    place = bisect_right(document.parts, start, key=lambda part: part.start)
    return {**document.parts[place - 1].metadata, **document.metadata} if place else document.metadata


def pages(text: str) -> tuple[str, tuple[Part, ...]]:
    """A text with PAGE_END between its pages: the same with empty lines there, and a part for each page that holds text."""
    kept: list[str] = []
    parts: list[Part] = []
    start = 0
    for number, page in enumerate(text.split(PAGE_END), 1):
        if page := page.strip():
            parts.append(Part(start, {"page": number}, apart=True))
            kept.append(page)
            start += len(page) + 2
    return "\n\n".join(kept), tuple(parts)


def headings(text: str) -> tuple[Part, ...]:
    """A part of a Markdown text for each of its headings, with the path to it: `heading`, such as "Setup > On Linux"."""
    parts: list[Part] = []
    above: list[tuple[int, str]] = []
    for start, level, title in _found(text):
        above = [(higher, name) for higher, name in above if higher < level]
        above.append((level, title))
        path = " > ".join(name for _, name in above if name)
        parts.append(Part(start, {"heading": path} if path else {}))
    return tuple(parts)


def _found(text: str) -> Iterator[tuple[int, int, str]]:
    """Where each heading begins, its level and its words; none within fenced code. Parsers of all of Markdown take 1 s a MB."""
    fence = ""
    for match in _HEADING_OR_FENCE.finditer(text):
        if mark := match["fence"]:
            if not fence:
                fence = mark
            elif mark.startswith(fence) and not match["language"].strip():
                fence = ""
        elif not fence and match["under"]:
            yield match.start(), 1 if match["under"][0] == "=" else 2, _words(match["over"])
        elif not fence:
            yield match.start(), len(match["level"]), _words(match["title"] or "")


def _words(heading: str) -> str:
    """A heading without its marks of links, emphasis and code."""
    return _MARKS.sub("", _LINK.sub(r"\1", heading[:_LONGEST_HEADING])).strip()
